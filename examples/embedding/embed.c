/*
 * The whole exchange in C: a server issues a challenge, a client solves it, the server verifies.
 *
 *     cc embed.c $(python -m powfast --cflags --libs) -o embed
 */
#include <stdio.h>
#include <time.h>

#include "powfast.h"

static uint64_t milliseconds(void) {
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int draw(uint8_t *bytes, size_t length) {
    FILE *file = fopen("/dev/urandom", "rb");
    int drawn = file && fread(bytes, 1, length, file) == length;
    if (file)
        fclose(file);
    return drawn;
}

int main(void) {
    static const uint8_t key_id[] = {'2', '0', '2', '6'}, alice[] = {'a', 'l', 'i', 'c', 'e'};
    const powfast_field account = {alice, sizeof alice}, request = {NULL, 0};
    const powfast_kernel *kernel;
    powfast_key key;
    uint8_t secret[32], token[POWFAST_MAX_TOKEN_BYTES];
    uint64_t nonces[POWFAST_MAX_PARTS];
    size_t length;
    const uint32_t sha256 = 1u << POWFAST_ALGORITHM_SHA256;

    if (powfast_kernel_select(&kernel, NULL, powfast_cpu_features()) || !draw(secret, 32) ||
        powfast_key_init(&key, kernel, key_id, sizeof key_id, secret, sizeof secret))
        return 1;

    /* server: what the caller has to do for its answer */
    powfast_challenge challenge = {.puzzle = {.work = 2000000}, .account = account};
    challenge.algorithm = POWFAST_ALGORITHM_SHA256;
    challenge.puzzle.parts = powfast_default_parts(challenge.puzzle.work);
    challenge.issued = milliseconds();
    challenge.expires = challenge.issued + 120000;
    if (!draw(challenge.id, sizeof challenge.id) ||
        powfast_token_issue(token, &length, kernel, &key, &challenge))
        return 2;

    /* client: needs no key */
    powfast_challenge asked;
    if (powfast_token_decode(&asked, kernel, sha256, token, length) ||
        powfast_solve(nonces, kernel, &asked.puzzle))
        return 3;

    /* server: then redeem checked.id, once */
    powfast_challenge checked;
    if (powfast_token_check(&checked, kernel, &key, 1, sha256, token, length, milliseconds(),
                            account, request) ||
        powfast_verify(kernel, &checked.puzzle, nonces))
        return 4;
    printf("%s: admitted after %llu expected evaluations\n", powfast_kernel_name(kernel),
           (unsigned long long)checked.puzzle.work);
    return 0;
}
