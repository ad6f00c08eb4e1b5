//! The `tieline` program. Everything is in the library; see [`tieline::cli`].

fn main() -> std::process::ExitCode {
    tieline::cli::main()
}
