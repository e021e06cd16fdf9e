#include "powfast_impl.h"

static const uint8_t tag[10] = {'p', 'o', 'w', 'f', 'a', 's', 't', '/', 'c', '1'};

/* Where the fixed fields stand. */
enum {
    ALGORITHM_AT = 10,
    ID_AT = 11,
    WORK_AT = 27,
    PARTS_AT = 35,
    ISSUED_AT = 37,
    EXPIRES_AT = 45,
    FIELDS_AT = 53,
    MAC_BYTES = 32,
    SKEW = 1000 /* milliseconds by which the clocks of two issuers may differ */
};

/* ---- reading ---- */

/* Whether the bytes are UTF-8: shortest forms only, no surrogates, nothing above U+10FFFF. */
static int is_utf8(powfast_field text) {
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    for (size_t i = 0; i < text.length;) {
        uint8_t lead = text.bytes[i++];
        if (lead < 0x80)
            continue;
        size_t more = lead < 0xc0 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : lead < 0xf8 ? 3 : 0;
        uint32_t point = lead & (0x3fu >> more);
        if (more == 0 || text.length - i < more)
            return 0;
        for (size_t end = i + more; i < end; i++) {
            if ((text.bytes[i] & 0xc0) != 0x80)
                return 0;
            point = point << 6 | (text.bytes[i] & 0x3f);
        }
        if (point < least[more] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000))
            return 0;
    }
    return 1;
}

/* Everything but the seed, which costs a hash that a forged token is not worth. */
static powfast_status parse(powfast_challenge *challenge, const uint8_t *token, size_t length) {
    powfast_field *fields[] = {&challenge->key_id, &challenge->account, &challenge->group,
                               &challenge->request};
    if (length < FIELDS_AT + 4 + MAC_BYTES || length > POWFAST_MAX_TOKEN_BYTES ||
        memcmp(token, tag, sizeof tag) != 0)
        return POWFAST_MALFORMED_TOKEN;
    size_t at = FIELDS_AT, end = length - MAC_BYTES;
    for (int i = 0; i < 4; i++) {
        if (at >= end || token[at] > end - at - 1)
            return POWFAST_MALFORMED_TOKEN;
        *fields[i] = (powfast_field){token + at + 1, token[at]};
        at += 1u + token[at];
    }
    challenge->algorithm = token[ALGORITHM_AT];
    memcpy(challenge->id, token + ID_AT, sizeof challenge->id);
    challenge->puzzle.work = load_be64(token + WORK_AT);
    challenge->puzzle.parts = (uint32_t)token[PARTS_AT] << 8 | token[PARTS_AT + 1];
    challenge->issued = load_be64(token + ISSUED_AT);
    challenge->expires = load_be64(token + EXPIRES_AT);
    int valid = at == end && challenge->key_id.length > 0 && is_utf8(challenge->key_id) &&
                is_utf8(challenge->account) && is_utf8(challenge->group) &&
                powfast_puzzle_check(&challenge->puzzle) == POWFAST_OK;
    return valid ? POWFAST_OK : POWFAST_MALFORMED_TOKEN;
}

static int is_among(uint32_t algorithms, uint8_t algorithm) {
    return algorithm < 32 && (algorithms >> algorithm & 1);
}

powfast_status powfast_token_decode(powfast_challenge *challenge, const powfast_kernel *kernel,
                                    uint32_t algorithms, const uint8_t *token, size_t length) {
    powfast_status status = parse(challenge, token, length);
    if (status != POWFAST_OK)
        return status;
    powfast_sha256(challenge->puzzle.seed, kernel, token, length);
    return is_among(algorithms, challenge->algorithm) ? POWFAST_OK : POWFAST_UNSUPPORTED_ALGORITHM;
}

static int equal(powfast_field a, powfast_field b) {
    return a.length == b.length && (a.length == 0 || memcmp(a.bytes, b.bytes, a.length) == 0);
}

/* In a time that does not depend on where they differ. */
static int equal_macs(const uint8_t a[MAC_BYTES], const uint8_t b[MAC_BYTES]) {
    volatile uint8_t difference = 0;
    for (int i = 0; i < MAC_BYTES; i++)
        difference |= a[i] ^ b[i];
    return difference == 0;
}

static powfast_status authenticate(const powfast_challenge *challenge, const powfast_kernel *kernel,
                                   const powfast_key *keys, size_t key_count,
                                   const uint8_t *token, size_t length) {
    uint8_t mac[MAC_BYTES];
    for (size_t i = 0; i < key_count; i++) {
        if (!equal((powfast_field){keys[i].id, keys[i].id_length}, challenge->key_id))
            continue;
        powfast_hmac(mac, kernel, &keys[i], token, length - MAC_BYTES);
        return equal_macs(mac, token + length - MAC_BYTES) ? POWFAST_OK : POWFAST_BAD_SIGNATURE;
    }
    return POWFAST_UNKNOWN_KEY;
}

powfast_status powfast_token_check(powfast_challenge *challenge, const powfast_kernel *kernel,
                                   const powfast_key *keys, size_t key_count, uint32_t algorithms,
                                   const uint8_t *token, size_t length, uint64_t now,
                                   powfast_field account, powfast_field request) {
    powfast_status status = parse(challenge, token, length);
    if (status == POWFAST_OK)
        status = authenticate(challenge, kernel, keys, key_count, token, length);
    if (status != POWFAST_OK)
        return status;
    if (challenge->issued > now && challenge->issued - now > SKEW)
        return POWFAST_NOT_YET_VALID;
    if (challenge->expires <= now)
        return POWFAST_EXPIRED;
    if (!is_among(algorithms, challenge->algorithm))
        return POWFAST_UNSUPPORTED_ALGORITHM;
    if (!equal(challenge->account, account))
        return POWFAST_WRONG_ACCOUNT;
    if (!equal(challenge->request, request))
        return POWFAST_WRONG_REQUEST;
    powfast_sha256(challenge->puzzle.seed, kernel, token, length);
    return POWFAST_OK;
}

/* ---- writing ---- */

powfast_status powfast_key_init(powfast_key *key, const powfast_kernel *kernel,
                                const uint8_t *id, size_t id_length, const uint8_t *secret,
                                size_t secret_length) {
    if (id_length == 0 || id_length > sizeof key->id || secret_length < 32 ||
        !is_utf8((powfast_field){id, id_length}))
        return POWFAST_INVALID_ARGUMENT;
    memcpy(key->id, id, id_length);
    key->id_length = id_length;
    powfast_hmac_key(key, kernel, secret, secret_length);
    return POWFAST_OK;
}

static uint8_t *append(uint8_t *at, const uint8_t *bytes, size_t length) {
    *at++ = (uint8_t)length;
    if (length)
        memcpy(at, bytes, length);
    return at + length;
}

powfast_status powfast_token_issue(uint8_t *token, size_t *length, const powfast_kernel *kernel,
                                   const powfast_key *key, const powfast_challenge *challenge) {
    const powfast_field *fields[] = {&challenge->account, &challenge->group, &challenge->request};
    if (powfast_puzzle_check(&challenge->puzzle) != POWFAST_OK ||
        !is_among(POWFAST_ALGORITHMS, challenge->algorithm))
        return POWFAST_INVALID_ARGUMENT;
    for (int i = 0; i < 3; i++)
        if (fields[i]->length > POWFAST_MAX_FIELD_BYTES || (i < 2 && !is_utf8(*fields[i])))
            return POWFAST_INVALID_ARGUMENT;
    memcpy(token, tag, sizeof tag);
    token[ALGORITHM_AT] = challenge->algorithm;
    memcpy(token + ID_AT, challenge->id, sizeof challenge->id);
    store_be64(token + WORK_AT, challenge->puzzle.work);
    token[PARTS_AT] = (uint8_t)(challenge->puzzle.parts >> 8);
    token[PARTS_AT + 1] = (uint8_t)challenge->puzzle.parts;
    store_be64(token + ISSUED_AT, challenge->issued);
    store_be64(token + EXPIRES_AT, challenge->expires);
    uint8_t *end = append(token + FIELDS_AT, key->id, key->id_length);
    for (int i = 0; i < 3; i++)
        end = append(end, fields[i]->bytes, fields[i]->length);
    powfast_hmac(end, kernel, key, token, (size_t)(end - token));
    *length = (size_t)(end - token) + MAC_BYTES;
    return POWFAST_OK;
}
