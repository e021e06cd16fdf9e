/*
 * Both algorithms for a graphics card, in OpenCL C and, by the macros below, in CUDA. Each work-item
 * (of search_walks_locally: each group of eight) tries `count` nonces and returns the smallest
 * digest.
 *
 * search_walks: a work-item's state is 256 KiB of device memory. With as many states as the card's
 * cache holds, that is where they are. search_walks_locally: a state is 160 KiB of a multiprocessor's own
 * memory, of which every fourth row is kept (trade_off.c) and eight work-items share the rest.
 */
#ifdef __OPENCL_VERSION__
#define KERNEL __kernel void
#define GLOBAL __global
#define LOCAL __local
#define CONSTANT __constant
#define LOCAL_ARRAY(name, words) __local u64 name[words]
#define ID get_global_id(0)
#define GROUP get_group_id(0)
#define LANE get_local_id(0)
#define BARRIER barrier(CLK_LOCAL_MEM_FENCE)
#define FUNCTION static
typedef uint u32;
typedef ulong u64;
#else
#define KERNEL extern "C" __global__ void
#define GLOBAL
#define LOCAL
#define CONSTANT __constant__
#define LOCAL_ARRAY(name, words) extern __shared__ u64 name[]
#define ID (blockIdx.x * blockDim.x + threadIdx.x)
#define GROUP blockIdx.x
#define LANE threadIdx.x
#define BARRIER __syncwarp(0xff)
#define FUNCTION static __device__
typedef unsigned int u32;
typedef unsigned long long u64;
#endif

#define K 0x9e3779b97f4a7c15ul
#define ROWS 4096
#define STEPS 2048
#define WORDS (8 * ROWS)
#define LOCAL_WORDS (8 * (STEPS + (ROWS - STEPS) / 4))
#define V1 0x76313a00 /* "v1:" and room for a byte */
#define V2 0x76323a00

CONSTANT u32 round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

FUNCTION u32 rotated(u32 x, int n) { return x >> n | x << (32 - n); }

/* One block of SHA-256; `w` is used up. */
FUNCTION void compress(u32 h[8], u32 w[16]) {
    u32 a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f = h[5], g = h[6], last = h[7];
#pragma unroll
    for (int t = 0; t < 64; t++) {
        if (t >= 16) {
            u32 x = w[(t + 1) % 16], y = w[(t + 14) % 16];
            w[t % 16] += w[(t + 9) % 16] + (rotated(x, 7) ^ rotated(x, 18) ^ x >> 3) +
                         (rotated(y, 17) ^ rotated(y, 19) ^ y >> 10);
        }
        u32 one = last + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + (g ^ (e & (f ^ g))) +
                   round_constants[t] + w[t % 16];
        u32 two = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) | (c & (a | b)));
        last = g, g = f, f = e, e = d + one, d = c, c = b, b = a, a = one + two;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e, h[5] += f, h[6] += g, h[7] += last;
}

FUNCTION void start(u32 h[8]) {
    h[0] = 0x6a09e667, h[1] = 0xbb67ae85, h[2] = 0x3c6ef372, h[3] = 0xa54ff53a;
    h[4] = 0x510e527f, h[5] = 0x9b05688c, h[6] = 0x1f83d9ab, h[7] = 0x5be0cd19;
}

/* SHA-256(seed || "powfast/v1:" or v2 || part || nonce): 55 bytes. */
FUNCTION void hash_of_nonce(u32 h[8], GLOBAL const u32 *seed, u32 version, u32 part,
                          u64 nonce) {
    u32 w[16];
    for (int i = 0; i < 8; i++)
        w[i] = seed[i];
    w[8] = 0x706f7766, w[9] = 0x6173742f; /* "powfast/" */
    w[10] = version | part >> 24;
    w[11] = part << 8 | (u32)(nonce >> 56);
    w[12] = (u32)(nonce >> 24);
    w[13] = (u32)nonce << 8 | 0x80;
    w[14] = 0, w[15] = 440;
    start(h);
    compress(h, w);
}

KERNEL search_hashes(GLOBAL u64 *smallest, GLOBAL const u32 *seed, u32 part, u64 first,
                     u32 count) {
    u64 least = ~0ul;
    for (u32 n = 0; n < count; n++) {
        u32 h[8];
        hash_of_nonce(h, seed, V1, part, first + (u64)ID * count + n);
        u64 digest = (u64)h[0] << 32 | h[1];
        least = digest < least ? digest : least;
    }
    smallest[ID] = least;
}

FUNCTION u64 swap_halves(u64 u) { return u << 32 | u >> 32; }

/* What a walk begins with: x is h || SHA-256(h). */
FUNCTION void begin(u32 h[8], u64 x[8], GLOBAL const u32 *seed, u32 part, u64 nonce) {
    u32 second[8], w[16] = {0};
    hash_of_nonce(h, seed, V2, part, nonce);
    for (int i = 0; i < 8; i++)
        w[i] = h[i];
    w[8] = 0x80000000, w[15] = 256;
    start(second);
    compress(second, w);
    for (int i = 0; i < 4; i++) {
        x[i] = (u64)h[2 * i] << 32 | h[2 * i + 1];
        x[4 + i] = (u64)second[2 * i] << 32 | second[2 * i + 1];
    }
}

/* The first word of SHA-256(h || x): 96 bytes. */
FUNCTION u64 finish(const u32 h[8], const u64 x[8]) {
    u32 digest[8], w[16];
    for (int i = 0; i < 8; i++)
        w[i] = h[i];
    for (int i = 0; i < 4; i++)
        w[8 + 2 * i] = (u32)(x[i] >> 32), w[9 + 2 * i] = (u32)x[i];
    start(digest);
    compress(digest, w);
    for (int i = 0; i < 4; i++)
        w[2 * i] = (u32)(x[4 + i] >> 32), w[2 * i + 1] = (u32)x[4 + i];
    w[8] = 0x80000000, w[15] = 768;
    for (int i = 9; i < 15; i++)
        w[i] = 0;
    compress(digest, w);
    return (u64)digest[0] << 32 | digest[1];
}

FUNCTION void stir(u64 x[8], const u64 u[8]) {
    for (int i = 0; i < 8; i++)
        x[i] = swap_halves(u[i]) + u[(i + 1) % 8];
}

FUNCTION void walk(GLOBAL u64 *m, u64 x[8]) {
    u64 u[8];
    for (u32 r = 0; r < ROWS; r++) {
        GLOBAL const u64 *feeder = m + 8 * ((x[0] >> 32) * r >> 32);
        for (int i = 0; i < 8; i++)
            u[i] = (r > 0 && r % 4 == 0 ? x[i] ^ feeder[i] : x[i]) * K;
        stir(x, u);
        for (int i = 0; i < 8; i++)
            m[8 * r + i] = x[i];
    }
    for (u32 s = 0; s < STEPS; s++) {
        for (int i = 0; i < 8; i++)
            u[i] = ((x[i] ^ m[(x[i] >> 32) % WORDS]) + m[x[i] % WORDS]) * K;
        stir(x, u);
        for (int i = 0; i < 8; i++)
            m[8 * s + i] ^= x[i];
    }
}

KERNEL search_walks(GLOBAL u64 *smallest, GLOBAL const u32 *seed, u32 part, u64 first,
                    u32 count, GLOBAL u64 *states) {
    u64 least = ~0ul;
    for (u32 n = 0; n < count; n++) {
        u32 h[8];
        u64 x[8];
        begin(h, x, seed, part, first + (u64)ID * count + n);
        walk(states + (u64)ID * WORDS, x);
        u64 digest = finish(h, x);
        least = digest < least ? digest : least;
    }
    smallest[ID] = least;
}

/* -- eight work-items a walk, each with one word of x */

#ifdef __OPENCL_VERSION__
FUNCTION u64 of_lane(__local u64 *exchange, u64 mine, u32 lane) {
    exchange[LANE] = mine;
    BARRIER;
    u64 word = exchange[lane];
    BARRIER;
    return word;
}
#else
FUNCTION u64 of_lane(u64 *, u64 mine, u32 lane) { return __shfl_sync(0xff, mine, lane, 8); }
#endif

FUNCTION u64 stirred(LOCAL u64 *exchange, u64 u) {
    return swap_halves(u) + of_lane(exchange, u, (LANE + 1) % 8);
}

/* Row r, a multiple of four, is kept where it belongs, or closer together where no step goes. */
FUNCTION u32 kept_at(u32 r) { return r < STEPS ? r : STEPS + (r - STEPS) / 4; }

/* A word of row r as the fill left it, from the words of the kept row before that it follows from. */
FUNCTION u64 filled(LOCAL const u64 *rows, u32 r, u32 word) {
    u64 u[4];
    u32 kept = 8 * kept_at(r - r % 4);
    for (u32 i = 0; i < 4; i++)
        u[i] = rows[kept + (word + i) % 8];
    for (u32 row = 3; row > 0; row--) {
        if (row > r % 4)
            continue;
        for (u32 i = 0; i < row; i++)
            u[i] = swap_halves(u[i] * K) + u[i + 1] * K;
    }
    return u[0];
}

FUNCTION u64 looked_up(LOCAL const u64 *rows, u32 at, u32 whole) {
    return at < 8 * whole ? rows[at] : filled(rows, at / 8, at % 8);
}

FUNCTION u64 walk_locally(LOCAL u64 *rows, LOCAL u64 *exchange, u64 x) {
    for (u32 r = 0; r < ROWS; r++) {
        if (r > 0 && r % 4 == 0) {
            u32 j = (u32)((of_lane(exchange, x, 0) >> 32) * r >> 32);
            x ^= filled(rows, j, LANE);
            BARRIER; /* all have read before one writes */
        }
        x = stirred(exchange, x * K);
        if (r % 4 == 0)
            rows[8 * kept_at(r) + LANE] = x;
        BARRIER;
    }
    for (u32 s = 0; s < STEPS; s++) {
        if (s % 4 == 0) { /* from here on these four rows are kept whole */
            u64 row = rows[8 * s + LANE];
            for (u32 i = 1; i < 4; i++) {
                row = stirred(exchange, row * K);
                rows[8 * (s + i) + LANE] = row;
            }
            BARRIER;
        }
        u32 whole = s - s % 4 + 4;
        u64 one = looked_up(rows, (u32)(x >> 32) % WORDS, whole);
        u64 two = looked_up(rows, (u32)x % WORDS, whole);
        BARRIER;
        x = stirred(exchange, ((x ^ one) + two) * K);
        rows[8 * s + LANE] ^= x;
        BARRIER;
    }
    return x;
}

KERNEL search_walks_locally(GLOBAL u64 *smallest, GLOBAL const u32 *seed, u32 part,
                            u64 first, u32 count) {
    LOCAL_ARRAY(rows, LOCAL_WORDS + 8);
    LOCAL u64 *exchange = rows + LOCAL_WORDS;
    u64 least = ~0ul;
    for (u32 n = 0; n < count; n++) {
        u32 h[8];
        u64 all[8], x = 0;
        begin(h, all, seed, part, first + (u64)GROUP * count + n);
#pragma unroll
        for (u32 i = 0; i < 8; i++)
            x = i == LANE ? all[i] : x;
        x = walk_locally(rows, exchange, x);
#pragma unroll
        for (u32 i = 0; i < 8; i++)
            all[i] = of_lane(exchange, x, i);
        u64 digest = finish(h, all);
        least = digest < least ? digest : least;
    }
    if (LANE == 0)
        smallest[GROUP] = least;
}
