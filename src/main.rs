//! The `tieline` program. Everything is in the library; see [`tieline::cli`].

// A turn costs a twentieth less than with the C library's, at the same memory: docs/benchmarks.md.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    tieline::cli::main()
}
