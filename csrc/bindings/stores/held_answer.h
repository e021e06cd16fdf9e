// An answer that waits: small ones are bytes of our own, for blocks of Python's that live for long
// scatter those that do not over colder and colder memory. Of a large one the body stays Python's.
#ifndef POWFAST_HELD_ANSWER_H
#define POWFAST_HELD_ANSWER_H

#include "objects.h"

namespace held {

class Answer {
  public:
    // Take (status, headers, body) over; false where it is anything else.
    bool pack(PyObject *answer) {
        if (!PyTuple_Check(answer) || PyTuple_GET_SIZE(answer) != 3)
            return false;
        PyObject *status = PyTuple_GET_ITEM(answer, 0), *headers = PyTuple_GET_ITEM(answer, 1);
        powfast_field body;
        if (!PyLong_Check(status) || !bytes_of(PyTuple_GET_ITEM(answer, 2), &body))
            return false;
        int overflow;
        status_ = PyLong_AsLongAndOverflow(status, &overflow);
        if (overflow || !(PyTuple_Check(headers) || PyList_Check(headers)))
            return false;
        packed_.reserve(512);
        for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(headers); i++)
            if (!pack_header(PySequence_Fast_GET_ITEM(headers, i)))
                return false;
        if (body.length > kSmall)
            body_ = py::reinterpret_borrow<py::object>(PyTuple_GET_ITEM(answer, 2));
        else
            append(&packed_, body);
        packed_.shrink_to_fit();
        size_ += body.length;
        return true;
    }

    // Bytes of its body, and of the names and values of its headers.
    size_t size() const { return size_; }

    py::object unpack() const {
        const char *at = packed_.data();
        py::tuple headers(headers_);
        for (size_t i = 0; i < headers_; i++) {
            py::bytes name = raw(next_field(&at));
            headers[i] = py::make_tuple(name, raw(next_field(&at)));
        }
        return py::make_tuple(status_, headers, body_ ? body_ : raw(next_field(&at)));
    }

  private:
    static constexpr size_t kSmall = 4096;

    bool pack_header(PyObject *header) {
        powfast_field name, value;
        if (!has_items(header, 2) || !bytes_of(PySequence_Fast_GET_ITEM(header, 0), &name) ||
            !bytes_of(PySequence_Fast_GET_ITEM(header, 1), &value))
            return false;
        append(&packed_, name);
        append(&packed_, value);
        size_ += name.length + value.length;
        headers_++;
        return true;
    }

    long status_ = 0;
    size_t size_ = 0, headers_ = 0;
    std::string packed_;
    py::object body_; // null: it stands in packed_, after the headers
};

} // namespace held

#endif
