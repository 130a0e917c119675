//! Shell completions and manual pages, made from the definition of the command line itself, so that
//! they cannot say anything else.

use std::io::{self, Write};
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

/// What the program is called.
const NAME: &str = "flameup-gateway";

/// Writes completions for a shell.
///
/// # Errors
/// When `out` cannot be written to.
pub fn completions(mut command: Command, shell: Shell, out: &mut impl Write) -> io::Result<()> {
    // It panics on an output that fails, such as a closed pipe; memory does not.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, NAME, &mut script);
    out.write_all(&script)
}

/// Writes manual pages for section 1 into a directory, one for each command.
///
/// # Errors
/// When the directory cannot be made or written to.
pub fn pages(command: Command, directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    // The name of a page is that of its command. Help has pages already: these.
    clap_mangen::generate_to(command.disable_help_subcommand(true), directory)
}
