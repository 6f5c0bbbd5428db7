//! The program. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A worker takes over its standard streams before anything else could use them.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|command| command == host::process::COMMAND)
    {
        std::process::exit(host::run_worker());
    }
    host::cli::main()
}
