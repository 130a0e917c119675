//! Counting what a function of this program does, by valgrind's callgrind.

use std::fs;
use std::process::Command;

use crate::Fallible;

/// Functions of the C library that give memory out. Each call of one is an allocation.
const ALLOCATORS: [&str; 6] = [
    "malloc",
    "calloc",
    "realloc",
    "memalign",
    "aligned_alloc",
    "posix_memalign",
];

/// Runs this program with `arguments`, and counts the instructions of `function` and of whatever it
/// calls.
pub(crate) fn instructions_of(function: &str, arguments: &[&str]) -> Fallible<u64> {
    let profile = profile(&[&format!("--toggle-collect=*{function}*")], arguments)?;
    let total = profile
        .lines()
        .find_map(|line| line.strip_prefix("summary: "));
    Ok(total.ok_or("the profile has no total")?.trim().parse()?)
}

/// Runs this program with `arguments`, and counts how often it asked for memory. In the whole run:
/// calls outside of one function are counted with those inside.
pub(crate) fn allocations(arguments: &[&str]) -> Fallible<u64> {
    let (mut allocations, mut called) = (0, "");
    // `cfn=` names whom the next `calls=` is about.
    for line in profile(&[], arguments)?.lines() {
        if let Some(name) = line.strip_prefix("cfn=") {
            called = name;
        } else if let Some(calls) = line.strip_prefix("calls=")
            && ALLOCATORS.contains(&called)
        {
            let times = calls.split(' ').next().unwrap_or(calls);
            allocations += times.parse::<u64>()?;
        }
    }
    Ok(allocations)
}

/// What callgrind writes about a run of this program.
fn profile(options: &[&str], arguments: &[&str]) -> Fallible<String> {
    let program = std::env::current_exe()?;
    let output = program.with_extension("callgrind");
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--compress-strings=no"])
        .arg(format!("--callgrind-out-file={}", output.display()))
        .args(options)
        .arg(&program)
        .args(arguments)
        .output()
        .map_err(|error| format!("running valgrind, which has to be installed: {error}"))?;
    if !run.status.success() {
        let said = String::from_utf8_lossy(&run.stderr);
        return Err(format!("{arguments:?} under valgrind: {}\n{said}", run.status).into());
    }
    Ok(fs::read_to_string(&output)?)
}
