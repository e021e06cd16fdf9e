#include "powfast_impl.h"

powfast_status powfast_puzzle_check(const powfast_puzzle *puzzle) {
    int valid = puzzle->work > 0 && puzzle->parts > 0 && puzzle->parts <= POWFAST_MAX_PARTS;
    return valid ? POWFAST_OK : POWFAST_INVALID_ARGUMENT;
}

enum { USUAL_PARTS = 16, SMALLEST_PART = 256 };

uint32_t powfast_default_parts(uint64_t work) {
    uint64_t parts = work / SMALLEST_PART;
    return parts < 1 ? 1 : parts < USUAL_PARTS ? (uint32_t)parts : USUAL_PARTS;
}

uint64_t powfast_part_work(const powfast_puzzle *puzzle) {
    return part_work(puzzle->work, puzzle->parts);
}

uint64_t powfast_part_limit(const powfast_puzzle *puzzle) {
    return part_limit(puzzle->work, puzzle->parts);
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
