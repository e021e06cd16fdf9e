#include "powfast_impl.h"

powfast_status powfast_puzzle_check(const powfast_puzzle *puzzle) {
    int valid = puzzle->work > 0 && puzzle->parts > 0 && puzzle->parts <= POWFAST_MAX_PARTS;
    return valid ? POWFAST_OK : POWFAST_INVALID_ARGUMENT;
}

uint64_t powfast_part_work(const powfast_puzzle *puzzle) {
    return puzzle->work / puzzle->parts + (puzzle->work % puzzle->parts != 0);
}

/* floor(2^64 / w) - 1 in 64-bit arithmetic: floor((2^64 - 1) / w), one less where w divides 2^64. */
uint64_t powfast_part_limit(const powfast_puzzle *puzzle) {
    uint64_t w = powfast_part_work(puzzle);
    return UINT64_MAX / w - (UINT64_MAX % w != w - 1);
}

/* The one block that is hashed: seed, "powfast/v1:", part, nonce, padding, bit length. */
void powfast_block(uint32_t block[16], const uint32_t seed[8], uint32_t part, uint64_t nonce) {
    memcpy(block, seed, 8 * sizeof *block);
    block[8] = 0x706f7766;  /* powf */
    block[9] = 0x6173742f;  /* ast/ */
    block[10] = 0x76313a00 | part >> 24; /* v1: */
    block[11] = part << 8 | (uint32_t)(nonce >> 56);
    block[12] = (uint32_t)(nonce >> 24);
    block[13] = (uint32_t)(nonce << 8) | 0x80;
    block[14] = 0;
    block[15] = 55 * 8;
}

void powfast_job_prepare(struct powfast_job *job, const uint32_t block[16], uint64_t limit) {
    uint32_t *w = job->constant;
    uint64_t varies = 1u << 13;
    memcpy(job->state, powfast_h, sizeof job->state);
    for (int t = 0; t < 12; t++)
        sha256_round(job->state, powfast_k[t] + block[t]);
    memcpy(w, block, 16 * sizeof *w);
    w[13] = 0;
    for (int t = 16; t < 64; t++) {
#define TERM(back, value) (varies >> (t - back) & 1 ? varies |= (uint64_t)1 << t, 0 : (value))
        w[t] = TERM(16, w[t - 16]);
        w[t] += TERM(15, small_sigma0(w[t - 15]));
        w[t] += TERM(7, w[t - 7]);
        w[t] += TERM(2, small_sigma1(w[t - 2]));
#undef TERM
    }
    job->limit = (uint32_t)(limit >> 32);
}
