// What goes over the wire as text.
#include "objects.h"

namespace {

// base64url(bytes) -> text without padding, RFC 4648 section 5
PyObject *base64url(PyObject *, PyObject *const *args, Py_ssize_t count) {
    static const char *digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    powfast_field given;
    if (count != 1 || !bytes_of(args[0], &given))
        return misused("base64url(bytes)");
    PyObject *text = PyUnicode_New((Py_ssize_t)((given.length * 4 + 2) / 3), 'z');
    if (!text)
        return nullptr;
    Py_UCS1 *at = PyUnicode_1BYTE_DATA(text);
    uint32_t bits = 0, left = 0;
    for (size_t i = 0; i < given.length; i++) {
        bits = bits << 8 | given.bytes[i];
        for (left += 8; left >= 6; left -= 6)
            *at++ = (Py_UCS1)digits[bits >> (left - 6) & 63];
    }
    if (left)
        *at = (Py_UCS1)digits[bits << (6 - left) & 63];
    return text;
}

} // namespace

void define_text(py::module_ &module) {
    module.attr("base64url") = bare<base64url>("base64url", py::none());
}
