# Reviews files in parallel. Each file has a session of its own, named after it, so that the next
# review of the same file knows what was said in this one. Needs PowerShell 7.
#
#   docs/examples/review.ps1 (Get-ChildItem src -Filter *.rs).FullName      the reviews go to review/
param(
    [Parameter(Mandatory)] [string[]] $Files,
    [int] $Jobs = 4,
    [int] $Pause = 2,
    [string] $Reviews = 'review'
)
$ErrorActionPreference = 'Stop'
# A failure is told by the exit status, below.
$PSNativeCommandUseErrorActionPreference = $false
New-Item -ItemType Directory -Force $Reviews | Out-Null

$failed = $Files | ForEach-Object -ThrottleLimit $Jobs -Parallel {
    $OutputEncoding = [Console]::OutputEncoding = [Text.UTF8Encoding]::new()
    $out = Join-Path $using:Reviews (($_ -replace '[\\/:]', '_') + '.md')
    $prompt = "Review this file. Name only bugs, each with its line.`n`n" + (Get-Content -Raw -LiteralPath $_)
    $problem = New-TemporaryFile
    for ($attempt = 1; $attempt -le 3; $attempt++) {
        # The prompt goes through standard input: it may be longer than an argument can be.
        $answer = $prompt | ollama-prompt --session-key "review:$_" --prompt - --output compact -q 2> $problem
        if ($LASTEXITCODE -eq 0) {
            ($answer | ConvertFrom-Json).response | Set-Content -LiteralPath $out
            break
        }
        # What went wrong is one line of JSON; it says whether the same call can succeed later.
        $failure = Get-Content -LiteralPath $problem | Select-Object -Last 1 | ConvertFrom-Json
        if (-not $failure.retryable -or $attempt -eq 3) {
            Write-Warning "$($_): $($failure.error)"
            $_
            break
        }
        Start-Sleep -Seconds $using:Pause
    }
    Remove-Item -LiteralPath $problem
}
if ($failed) { exit 1 }
