// Python objects read and made without pybind11's casts, on the way of every request.
#ifndef POWFAST_OBJECTS_H
#define POWFAST_OBJECTS_H

#include <cstring>
#include <new>
#include <string>

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "powfast.h"

namespace py = pybind11;
template <typename T> using Array = py::array_t<T, py::array::c_style>;

// What is read of Python objects, as it is found: nothing here trusts a type.

inline bool bytes_of(PyObject *object, powfast_field *field) {
    if (!PyBytes_CheckExact(object))
        return false;
    field->bytes = reinterpret_cast<const uint8_t *>(PyBytes_AS_STRING(object));
    field->length = (size_t)PyBytes_GET_SIZE(object);
    return true;
}

inline bool utf8_of(PyObject *object, powfast_field *field) {
    Py_ssize_t length;
    const char *text = PyUnicode_Check(object) ? PyUnicode_AsUTF8AndSize(object, &length) : nullptr;
    if (!text) {
        PyErr_Clear();
        return false;
    }
    field->bytes = reinterpret_cast<const uint8_t *>(text);
    field->length = (size_t)length;
    return true;
}

inline bool has_items(PyObject *object, size_t count) {
    return (PyTuple_Check(object) || PyList_Check(object)) &&
           (size_t)PySequence_Fast_GET_SIZE(object) == count;
}

// Integers (no bools) of 64 bits.
inline bool integers_of(PyObject *const *items, uint64_t *values, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (!PyLong_CheckExact(items[i]))
            return false;
        values[i] = PyLong_AsUnsignedLongLong(items[i]);
        if (values[i] == ~0ull && PyErr_Occurred()) {
            PyErr_Clear();
            return false;
        }
    }
    return true;
}

// A tuple or list of exactly `count` of them.
inline bool nonces_of(PyObject *object, uint64_t *nonces, size_t count) {
    return has_items(object, count) && integers_of(PySequence_Fast_ITEMS(object), nonces, count);
}

inline bool double_of(PyObject *object, double *value) {
    if (!PyFloat_CheckExact(object))
        return false;
    *value = PyFloat_AS_DOUBLE(object);
    return true;
}

// Any number: a clock may tell an integer, a tariff one of NumPy's.
inline bool number_of(PyObject *object, double *value) {
    *value = PyFloat_AsDouble(object);
    bool found = !PyErr_Occurred();
    PyErr_Clear();
    return found;
}

// A tuple or list of exactly `count` floats.
inline bool doubles_of(PyObject *object, double *values, size_t count) {
    if (!has_items(object, count))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!double_of(PySequence_Fast_GET_ITEM(object, i), &values[i]))
            return false;
    return true;
}

// Fields as one block, each after its length, so that no two sequences of them make the same one.

inline void append(std::string *block, powfast_field field) {
    block->append(reinterpret_cast<const char *>(&field.length), sizeof field.length);
    block->append(reinterpret_cast<const char *>(field.bytes), field.length);
}

// The field at `*at`, which moves on to the next one.
inline powfast_field next_field(const char **at) {
    powfast_field field;
    std::memcpy(&field.length, *at, sizeof field.length);
    field.bytes = reinterpret_cast<const uint8_t *>(*at + sizeof field.length);
    *at += sizeof field.length + field.length;
    return field;
}

inline py::bytes raw(powfast_field field) {
    return {reinterpret_cast<const char *>(field.bytes), field.length};
}

using BareFunction = PyObject *(PyObject *, PyObject *const *, Py_ssize_t);

// What a bare function returns that was called with anything else.
inline PyObject *misused(const char *signature) {
    PyErr_SetString(PyExc_TypeError, signature);
    return nullptr;
}

template <BareFunction *function>
PyObject *without_exceptions(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    try {
        return function(self, args, count);
    } catch (py::error_already_set &error) {
        error.restore();
        return nullptr;
    } catch (const std::bad_alloc &) {
        return PyErr_NoMemory();
    }
}

// A callable that keeps `self` alive, a capsule of what it works on for one.
template <BareFunction *function> py::object bare(const char *name, const py::object &self) {
    static PyMethodDef definition = {
        name, (PyCFunction)(void (*)(void))without_exceptions<function>, METH_FASTCALL, nullptr};
    return py::reinterpret_steal<py::object>(PyCFunction_New(&definition, self.ptr()));
}

// Native types with fast methods: bind the class with pybind11 (`py::class_<Self> type(module,
// "Self", py::is_final())` and its `py::init`), then add each method that requests call with
// `fast<method>(type, "name", "docstring")`, where `method` is a FastMethod<Self>.
template <typename Self> using FastMethod = PyObject *(Self &, PyObject *const *, Py_ssize_t);

// Python has checked the type of `object`: that of the method's class, which is final.
template <typename Self, FastMethod<Self> *method>
PyObject *on_value(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    auto *instance = reinterpret_cast<py::detail::instance *>(object);
    auto *self = static_cast<Self *>(instance->simple_value_holder[0]);
    return self ? method(*self, args, count) : misused("__init__() was not called");
}

template <auto *method, typename Self>
void fast(py::class_<Self> &type, const char *name, const char *doc) {
    static PyMethodDef definition = {
        name, (PyCFunction)(void (*)(void))without_exceptions<on_value<Self, method>>,
        METH_FASTCALL, doc};
    auto *owner = reinterpret_cast<PyTypeObject *>(type.ptr());
    type.attr(name) = py::reinterpret_steal<py::object>(PyDescr_NewMethod(owner, &definition));
}

#endif
