// A puzzle solved and verified from Go, through cgo:
//
//	export CGO_CFLAGS="$(python -m powfast --cflags)" CGO_LDFLAGS="$(python -m powfast --libs)"
//	go run solve.go
package main

// #include "powfast.h"
import "C"

import (
	"fmt"
	"os"
)

func main() {
	var kernel *C.powfast_kernel
	if status := C.powfast_kernel_select(&kernel, nil, C.powfast_cpu_features()); status != C.POWFAST_OK {
		fmt.Fprintln(os.Stderr, "no kernel:", status)
		os.Exit(1)
	}
	puzzle := C.powfast_puzzle{work: 2000000}
	puzzle.parts = C.powfast_default_parts(puzzle.work)
	nonces := make([]C.uint64_t, puzzle.parts)
	status := C.powfast_solve(&nonces[0], kernel, &puzzle)
	if status == C.POWFAST_OK {
		status = C.powfast_verify(kernel, &puzzle, &nonces[0])
	}
	if status != C.POWFAST_OK {
		fmt.Fprintln(os.Stderr, "not solved:", status)
		os.Exit(1)
	}
	fmt.Println("solved and verified by", C.GoString(C.powfast_kernel_name(kernel)))
}
