/* Plain C for every machine, and the judge of what the other kernels find. */
#include "../powfast_impl.h"

/* Rounds and schedule for words 16 .. 63; w holds the last sixteen words. */
static uint64_t digest_one(const uint32_t block[16]) {
    uint32_t s[8], w[16];
    memcpy(s, powfast_h, sizeof s);
    memcpy(w, block, sizeof w);
    for (int t = 0; t < 64; t++) {
        uint32_t *now = &w[t & 15];
        if (t >= 16)
            *now += small_sigma0(w[(t + 1) & 15]) + w[(t + 9) & 15] + small_sigma1(w[(t + 14) & 15]);
        sha256_round(s, powfast_k[t] + *now);
    }
    return (uint64_t)(s[0] + powfast_h[0]) << 32 | (s[1] + powfast_h[1]);
}

static void digest(uint64_t *digests, const uint32_t (*blocks)[16], size_t count) {
    for (size_t i = 0; i < count; i++)
        digests[i] = digest_one(blocks[i]);
}

/* The first digest word, from the state after round 12 and the constant parts of the schedule. */
static uint32_t first_word(const struct powfast_job *job, uint32_t w13) {
    uint32_t s[8], w[64];
    memcpy(s, job->state, sizeof s);
    memcpy(w, job->constant, sizeof w);
    w[13] += w13;
    w[20] += w13;
    w[22] += small_sigma1(w[20]);
    w[24] += small_sigma1(w[22]);
    w[26] += small_sigma1(w[24]);
    w[27] += w[20];
    w[28] += small_sigma1(w[26]) + small_sigma0(w13);
    w[29] += small_sigma1(w[27]) + w[22] + w13;
    w[30] += small_sigma1(w[28]);
    w[31] += small_sigma1(w[29]) + w[24];
    for (int t = 32; t < 64; t++)
        w[t] = small_sigma1(w[t - 2]) + w[t - 7] + small_sigma0(w[t - 15]) + w[t - 16];
    for (int t = 13; t < 64; t++)
        sha256_round(s, powfast_k[t] + w[t]);
    return s[0] + powfast_h[0];
}

static uint32_t search(const struct powfast_job *job, uint32_t low, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (first_word(job, (low + i) << 8 | 0x80) <= job->limit)
            return i;
    return count;
}

const struct powfast_kernel powfast_kernel_scalar = {"scalar", 0, search, digest};
