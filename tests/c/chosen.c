/* Which kernel is chosen, and which of the supported ones fail their self-test. */
#include <stdio.h>

#include "powfast.h"

int main(void) {
    const powfast_kernel *chosen;
    uint32_t features = powfast_cpu_features();
    powfast_kernel_select(&chosen, NULL, features);
    printf("%s", chosen ? powfast_kernel_name(chosen) : "none");
    for (size_t i = 0; i < powfast_kernel_count(); i++) {
        const powfast_kernel *kernel = powfast_kernel_at(i);
        if (powfast_kernel_supported(kernel, features) && powfast_kernel_selftest(kernel))
            printf(" -%s", powfast_kernel_name(kernel));
    }
    return 0;
}
