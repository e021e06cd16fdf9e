// What goes over the wire as text.
#include "objects.h"

namespace {

const char *const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

// Each character's six bits, 64 where it is no digit.
struct Values {
    uint8_t of[256];

    Values() {
        std::memset(of, 64, sizeof of);
        for (uint8_t value = 0; value < 64; value++)
            of[(uint8_t)digits[value]] = value;
    }
};

// from_base64url(text) -> bytes, None where another text, or none, encodes them
PyObject *from_base64url(PyObject *, PyObject *const *args, Py_ssize_t count) {
    static const Values values;
    powfast_field text;
    if (count != 1 || !PyUnicode_Check(args[0]))
        return misused("from_base64url(text)");
    if (!utf8_of(args[0], &text) || text.length % 4 == 1)
        Py_RETURN_NONE;
    PyObject *bytes = PyBytes_FromStringAndSize(nullptr, (Py_ssize_t)(text.length / 4 * 3 +
                                                                      text.length % 4 * 3 / 4));
    if (!bytes)
        return nullptr;
    auto *out = reinterpret_cast<uint8_t *>(PyBytes_AS_STRING(bytes));
    uint32_t bits = 0, pending = 0, wrong = 0;
    for (size_t i = 0; i < text.length; i++) {
        uint8_t value = values.of[text.bytes[i]];
        wrong |= value & 64;
        bits = bits << 6 | (value & 63);
        pending += 6;
        if (pending >= 8) {
            pending -= 8;
            *out++ = (uint8_t)(bits >> pending);
        }
    }
    wrong |= bits & ((1u << pending) - 1); // of several texts for these bytes, one is canonical
    if (!wrong)
        return bytes;
    Py_DECREF(bytes);
    Py_RETURN_NONE;
}

// base64url(bytes) -> text without padding, RFC 4648 section 5
PyObject *base64url(PyObject *, PyObject *const *args, Py_ssize_t count) {
    powfast_field given;
    if (count != 1 || !bytes_of(args[0], &given))
        return misused("base64url(bytes)");
    PyObject *text = PyUnicode_New((Py_ssize_t)((given.length * 4 + 2) / 3), 127);
    if (!text)
        return nullptr;
    auto *digit = PyUnicode_1BYTE_DATA(text), *end = digit + PyUnicode_GET_LENGTH(text);
    const uint8_t *bytes = given.bytes;
    size_t i = 0;
    for (; i + 3 <= given.length; i += 3) {
        uint32_t bits = (uint32_t)bytes[i] << 16 | (uint32_t)bytes[i + 1] << 8 | bytes[i + 2];
        for (int shift = 18; shift >= 0; shift -= 6)
            *digit++ = (Py_UCS1)digits[bits >> shift & 63];
    }
    uint32_t rest = 0;
    for (int shift = 16; i < given.length; i++, shift -= 8)
        rest |= (uint32_t)bytes[i] << shift;
    for (int shift = 18; digit < end; shift -= 6)
        *digit++ = (Py_UCS1)digits[rest >> shift & 63];
    return text;
}

} // namespace

void define_text(py::module_ &module) {
    module.attr("from_base64url") = bare<from_base64url>("from_base64url", py::none());
    module.attr("base64url") = bare<base64url>("base64url", py::none());
}
