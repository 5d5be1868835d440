//! A terminal for the program: a pseudo-terminal that python makes, of a width the test says.

/// Runs its arguments with the streams named first on a terminal, and prints what arrived there.
const SCRIPT: &str = "
import fcntl, os, pty, struct, subprocess, sys, termios
streams, columns, command = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, 0, 0))
mode = termios.tcgetattr(slave)
mode[1] &= ~termios.OPOST
termios.tcsetattr(slave, termios.TCSANOW, mode)
on = lambda name, other: slave if name in streams else other
child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=on('o', subprocess.DEVNULL), stderr=on('e', None))
os.close(slave)
seen = b''
while True:
    try: piece = os.read(master, 65536)
    except OSError: break
    if not piece: break
    seen += piece
sys.stdout.buffer.write(seen)
sys.exit(child.wait())
";

/// Returns what to run a program through so that `streams` of it (`o` standard output, `e` standard
/// error) are a terminal of so many columns. What it shows there is the standard output of the
/// whole; a standard output that is no terminal then goes nowhere.
pub(crate) fn terminal(streams: &str, columns: u16) -> Vec<String> {
    ["python3", "-c", SCRIPT, streams, &columns.to_string()]
        .map(str::to_owned)
        .to_vec()
}
