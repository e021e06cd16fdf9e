// What goes over the wire as text.
#include "objects.h"

namespace {

void append_base64url(std::string *text, powfast_field given) {
    static const char *digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint32_t bits = 0, left = 0;
    for (size_t i = 0; i < given.length; i++) {
        bits = bits << 8 | given.bytes[i];
        for (left += 8; left >= 6; left -= 6)
            *text += digits[bits >> (left - 6) & 63];
    }
    if (left)
        *text += digits[bits << (6 - left) & 63];
}

// base64url(bytes) -> text without padding, RFC 4648 section 5
PyObject *base64url(PyObject *, PyObject *const *args, Py_ssize_t count) {
    powfast_field given;
    if (count != 1 || !bytes_of(args[0], &given))
        return misused("base64url(bytes)");
    std::string text;
    text.reserve((given.length * 4 + 2) / 3);
    append_base64url(&text, given);
    return PyUnicode_FromStringAndSize(text.data(), (Py_ssize_t)text.size());
}

uint64_t big_endian(const uint8_t *bytes, size_t length) {
    uint64_t value = 0;
    while (length-- > 0)
        value = value << 8 | *bytes++;
    return value;
}

// asking(token) -> what a 402 says of a token that an issuer made, see docs/protocol.md: the value
// of WWW-Authenticate as bytes, and the members of its JSON, each after a comma, as text
PyObject *asking(PyObject *, PyObject *const *args, Py_ssize_t count) {
    powfast_field token;
    if (count != 1 || !bytes_of(args[0], &token) || token.length < 53)
        return misused("asking(token)");
    const uint8_t *price = token.bytes + 27; // work u64, parts u16, issued u64, expires u64
    std::string text, work = std::to_string(big_endian(price, 8)),
                      parts = std::to_string(big_endian(price + 8, 2));
    uint64_t lifetime = big_endian(price + 18, 8) - big_endian(price + 10, 8);
    std::string seconds = std::to_string((lifetime + 500) / 1000);
    text.reserve((token.length * 4 + 2) / 3);
    append_base64url(&text, token);
    std::string header = "PoW challenge=\"" + text + "\", work=\"" + work + "\", parts=\"" + parts +
                         "\", expires=\"" + seconds + "\"";
    std::string members = ", \"challenge\": \"" + text + "\", \"work\": " + work +
                          ", \"parts\": " + parts + ", \"expires\": " + seconds;
    return Py_BuildValue("NN", PyBytes_FromStringAndSize(header.data(), (Py_ssize_t)header.size()),
                         PyUnicode_FromStringAndSize(members.data(), (Py_ssize_t)members.size()));
}

} // namespace

void define_text(py::module_ &module) {
    module.attr("base64url") = bare<base64url>("base64url", py::none());
    module.attr("asking") = bare<asking>("asking", py::none());
}
