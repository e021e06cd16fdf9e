#include "powfast_impl.h"

#include <stdlib.h>

static const powfast_kernel *const kernels[] = {
#define KERNEL(name) &powfast_kernel_##name,
#include "kernels.def"
#undef KERNEL
};

size_t powfast_kernel_count(void) { return sizeof kernels / sizeof *kernels; }

const powfast_kernel *powfast_kernel_at(size_t index) {
    return index < powfast_kernel_count() ? kernels[index] : NULL;
}

const char *powfast_kernel_name(const powfast_kernel *kernel) { return kernel->name; }

int powfast_kernel_supported(const powfast_kernel *kernel, uint32_t features) {
    return (kernel->needs & features) == kernel->needs;
}

static powfast_status trust(const powfast_kernel *kernel, uint32_t features) {
    return powfast_kernel_supported(kernel, features) ? powfast_kernel_selftest(kernel)
                                                      : POWFAST_UNSUPPORTED_KERNEL;
}

powfast_status powfast_kernel_select(const powfast_kernel **kernel, const char *name,
                                     uint32_t features) {
    powfast_status status = POWFAST_UNKNOWN_KERNEL;
    *kernel = NULL;
    if (!name)
        name = getenv("POWFAST_KERNEL");
    if (name && !*name)
        name = NULL;
    for (size_t i = 0; i < powfast_kernel_count(); i++) {
        if (name && strcmp(name, kernels[i]->name) != 0)
            continue;
        status = trust(kernels[i], features);
        if (status == POWFAST_OK) {
            *kernel = kernels[i];
            break;
        }
    }
    return status;
}
