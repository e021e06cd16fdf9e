// The kernel that Python has chosen, as it hands it to whatever hashes.
#ifndef POWFAST_KERNEL_H
#define POWFAST_KERNEL_H

#include <stdexcept>
#include <string>

#include "powfast.h"

class Kernel {
  public:
    explicit Kernel(const std::string &name) {
        for (size_t i = 0; i < powfast_kernel_count() && !kernel_; i++)
            if (name == powfast_kernel_name(powfast_kernel_at(i)))
                kernel_ = powfast_kernel_at(i);
        if (!kernel_ || !powfast_kernel_supported(kernel_, powfast_cpu_features()))
            throw std::invalid_argument("this CPU has no kernel " + name);
    }

    const powfast_kernel *get() const { return kernel_; }
    const char *name() const { return powfast_kernel_name(kernel_); }

  private:
    const powfast_kernel *kernel_ = nullptr;
};

#endif
