/* libFuzzer: tokens of any bytes, and the same bytes as solutions to verify in a batch. */
#include <stdlib.h>
#include <string.h>

#include "powfast.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void verify_batch(const powfast_kernel *kernel, const uint8_t *data, size_t size) {
    uint32_t parts = size ? data[0] % 40u : 0;
    size_t row = 32 + 8 + 8 * (size_t)parts, count = size ? (size - 1) / row : 0;
    uint8_t *seeds = malloc(32 * count + 1), *ok = malloc(count + 1);
    uint64_t *works = malloc(8 * count + 1), *nonces = malloc(8 * count * parts + 1);
    for (size_t i = 0; i < count; i++) {
        const uint8_t *from = data + 1 + i * row;
        memcpy(seeds + 32 * i, from, 32);
        memcpy(works + i, from + 32, 8);
        memcpy(nonces + i * parts, from + 40, 8 * (size_t)parts);
    }
    powfast_verify_batch(ok, kernel, seeds, works, nonces, count, parts);
    for (size_t i = 0; parts && i < count; i++)
        if (ok[i] > 1)
            abort();
    free(seeds), free(works), free(nonces), free(ok);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const powfast_kernel *kernel;
    static powfast_key key;
    powfast_challenge challenge, checked;
    uint8_t again[POWFAST_MAX_TOKEN_BYTES];
    size_t length;
    if (!kernel) {
        static const uint8_t secret[32] = {1};
        powfast_kernel_select(&kernel, NULL, powfast_cpu_features());
        powfast_key_init(&key, kernel, (const uint8_t *)"k", 1, secret, sizeof secret);
    }
    verify_batch(kernel, data, size);
    if (powfast_token_decode(&challenge, kernel, POWFAST_ALGORITHMS, data, size) != POWFAST_OK)
        return 0;
    /* What is well formed can be issued again, and only the issued one is accepted. */
    if (powfast_token_check(&checked, kernel, &key, 1, POWFAST_ALGORITHMS, data, size,
                            challenge.issued, challenge.account, challenge.request) == POWFAST_OK &&
        challenge.issued >= challenge.expires)
        abort();
    if (powfast_token_issue(again, &length, kernel, &key, &challenge) != POWFAST_OK ||
        length != size - challenge.key_id.length + 1)
        abort();
    return 0;
}
