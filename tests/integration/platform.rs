//! What differs between operating systems is in one module.

use std::path::Path;

/// Returns the part of a source file that is not its unit tests.
fn own(source: &str) -> &str {
    let tests = source.find("#[cfg(test)]\nmod tests {");
    &source[..tests.unwrap_or(source.len())]
}

#[test]
fn nothing_but_the_platform_names_one() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let names = [
        "std::os::",
        "rustix::",
        "signal_hook::",
        "libc::",
        "target_os",
        "cfg(unix",
        "cfg(windows",
        "\"/proc/",
        "\"/dev/",
        "tokio::signal",
    ];
    let mut seen = 0;
    let files = walkdir::WalkDir::new(&src)
        .into_iter()
        .map(|entry| entry.expect("readable"));
    for file in files.filter(|file| file.path().extension().is_some_and(|e| e == "rs")) {
        let path = file.path().strip_prefix(&src).expect("below it");
        let source = std::fs::read_to_string(file.path()).expect("UTF-8");
        let found: Vec<&str> = names
            .into_iter()
            .filter(|name| own(&source).contains(name))
            .collect();
        if path.starts_with("platform") {
            seen += found.len();
        } else if !path.ends_with("tests.rs") {
            assert!(found.is_empty(), "{}: {found:?}", path.display());
        }
    }
    assert!(seen > 5, "the names are those that are used: {seen}");
}
