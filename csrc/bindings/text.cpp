// What goes over the wire as text.
#include <algorithm>
#include <string_view>

#include "objects.h"

namespace {

std::string in_base64url(powfast_field given) {
    static const char *digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    std::string text((given.length * 4 + 2) / 3, '\0');
    const uint8_t *bytes = given.bytes;
    size_t i = 0, digit = 0;
    for (; i + 3 <= given.length; i += 3) {
        uint32_t bits = (uint32_t)bytes[i] << 16 | (uint32_t)bytes[i + 1] << 8 | bytes[i + 2];
        for (int shift = 18; shift >= 0; shift -= 6)
            text[digit++] = digits[bits >> shift & 63];
    }
    uint32_t rest = 0;
    for (int shift = 16; i < given.length; i++, shift -= 8)
        rest |= (uint32_t)bytes[i] << shift;
    for (int shift = 18; digit < text.size(); shift -= 6)
        text[digit++] = digits[rest >> shift & 63];
    return text;
}

// base64url(bytes) -> text without padding, RFC 4648 section 5
PyObject *base64url(PyObject *, PyObject *const *args, Py_ssize_t count) {
    powfast_field given;
    if (count != 1 || !bytes_of(args[0], &given))
        return misused("base64url(bytes)");
    std::string text = in_base64url(given);
    return PyUnicode_FromStringAndSize(text.data(), (Py_ssize_t)text.size());
}

uint64_t big_endian(const uint8_t *bytes, size_t length) {
    uint64_t value = 0;
    while (length-- > 0)
        value = value << 8 | *bytes++;
    return value;
}

PyObject *joined(std::initializer_list<std::string_view> pieces) {
    Py_ssize_t length = 0;
    for (std::string_view piece : pieces)
        length += (Py_ssize_t)piece.size();
    PyObject *bytes = PyBytes_FromStringAndSize(nullptr, length);
    if (!bytes)
        return nullptr;
    char *out = PyBytes_AS_STRING(bytes);
    for (std::string_view piece : pieces)
        out = std::copy(piece.begin(), piece.end(), out);
    return bytes;
}

// asking(token) -> what a 402 says of a token that an issuer made, see docs/protocol.md: the value
// of WWW-Authenticate, and the members of its JSON, each after a comma
PyObject *asking(PyObject *, PyObject *const *args, Py_ssize_t count) {
    powfast_field token;
    if (count != 1 || !bytes_of(args[0], &token) || token.length < 53)
        return misused("asking(token)");
    const uint8_t *price = token.bytes + 27; // work u64, parts u16, issued u64, expires u64
    uint64_t lifetime = big_endian(price + 18, 8) - big_endian(price + 10, 8);
    std::string text = in_base64url(token), work = std::to_string(big_endian(price, 8)),
                parts = std::to_string(big_endian(price + 8, 2)),
                seconds = std::to_string((lifetime + 500) / 1000);
    PyObject *header = joined({"PoW challenge=\"", text, "\", work=\"", work, "\", parts=\"", parts,
                               "\", expires=\"", seconds, "\""});
    PyObject *members = joined({", \"challenge\": \"", text, "\", \"work\": ", work,
                                ", \"parts\": ", parts, ", \"expires\": ", seconds});
    return Py_BuildValue("NN", header, members);
}

} // namespace

void define_text(py::module_ &module) {
    module.attr("base64url") = bare<base64url>("base64url", py::none());
    module.attr("asking") = bare<asking>("asking", py::none());
}
