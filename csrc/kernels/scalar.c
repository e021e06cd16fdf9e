/* One lane of plain C: for every machine, and the judge of what the other kernels find. */
#include "../powfast_impl.h"

#define LANES 1
#define TARGET
typedef uint32_t vec;
#define SET(x) ((uint32_t)(x))
#define LOAD(p) (*(p))
#define STORE(p, x) (*(p) = (x))
#define ADD(x, y) ((x) + (y))
#define AND(x, y) ((x) & (y))
#define XOR(x, y) ((x) ^ (y))
#define SHR(x, n) ((x) >> (n))
#define ROTR(x, n) rotr(x, n)
#define AT_MOST(x, y) (uint32_t)((x) <= (y))

#include "lanes.h"

const struct powfast_kernel powfast_kernel_scalar = {"scalar", 0, search, digest};
