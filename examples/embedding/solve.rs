//! A puzzle solved and verified from Rust, with the declarations of `powfast.h` that it needs:
//!
//!     rustc -O solve.rs -C link-arg="$(python -m powfast --libs)"
use std::ffi::CStr;
use std::os::raw::{c_char, c_int};
use std::ptr;

#[repr(C)]
struct Kernel {
    _private: [u8; 0],
}

#[repr(C)]
struct Puzzle {
    seed: [u8; 32],
    work: u64,
    parts: u32,
}

const OK: c_int = 0;

extern "C" {
    fn powfast_cpu_features() -> u32;
    fn powfast_kernel_select(
        kernel: *mut *const Kernel,
        name: *const c_char,
        features: u32,
    ) -> c_int;
    fn powfast_kernel_name(kernel: *const Kernel) -> *const c_char;
    fn powfast_default_parts(work: u64) -> u32;
    fn powfast_solve(nonces: *mut u64, kernel: *const Kernel, puzzle: *const Puzzle) -> c_int;
    fn powfast_verify(kernel: *const Kernel, puzzle: *const Puzzle, nonces: *const u64) -> c_int;
}

fn main() {
    let mut kernel = ptr::null();
    let work = 2_000_000;
    // SAFETY: every pointer is valid for the call, and `nonces` has one element for each part.
    unsafe {
        assert_eq!(
            powfast_kernel_select(&mut kernel, ptr::null(), powfast_cpu_features()),
            OK
        );
        let puzzle = Puzzle {
            seed: [0; 32],
            work,
            parts: powfast_default_parts(work),
        };
        let mut nonces = vec![0; puzzle.parts as usize];
        assert_eq!(powfast_solve(nonces.as_mut_ptr(), kernel, &puzzle), OK);
        assert_eq!(powfast_verify(kernel, &puzzle, nonces.as_ptr()), OK);
        let name = CStr::from_ptr(powfast_kernel_name(kernel)).to_string_lossy();
        println!("solved and verified by {name}");
    }
}
