/* Every kernel's self-tests on an emulated CPU; the verdict goes to Bochs' debug port. */
#include <stddef.h>
#include <stdint.h>

#include "../../../csrc/powfast_impl.h"

void payload(void);
void *memcpy(void *to, const void *from, size_t count);
void *memmove(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);
int memcmp(const void *a, const void *b, size_t count);
int strcmp(const char *a, const char *b);
char *getenv(const char *name);
double ldexp(double value, int exponent);

extern uint64_t scratch[]; /* rom.ld */

static void out(uint16_t port, char byte) {
    __asm__ volatile("outb %0, %1" : : "a"(byte), "Nd"(port));
}

static void print(uint16_t port, const char *text) {
    while (*text)
        out(port, *text++);
}

void payload(void) {
    for (size_t i = 0; i < powfast_kernel_count(); i++) {
        const powfast_kernel *kernel = powfast_kernel_at(i);
        /* Zen 4 says how fast the others are, not what there is */
        if (!powfast_kernel_supported(kernel, powfast_cpu_features() | CPU_ZEN4))
            continue;
        print(0xe9, powfast_kernel_name(kernel));
        int right = powfast_kernel_selftest(kernel) == POWFAST_OK &&
                    powfast_walk_selftest(scratch, kernel) == POWFAST_OK;
        print(0xe9, right ? " right\n" : " wrong\n");
    }
    print(0x8900, "Shutdown");
}

/* What the library takes from the C library. */

void *memcpy(void *to, const void *from, size_t count) { return memmove(to, from, count); }

void *memmove(void *to, const void *from, size_t count) {
    char *target = to;
    const char *source = from;
    if (target <= source)
        for (size_t i = 0; i < count; i++)
            target[i] = source[i];
    else
        while (count--)
            target[count] = source[count];
    return to;
}

void *memset(void *to, int value, size_t count) {
    for (size_t i = 0; i < count; i++)
        ((char *)to)[i] = (char)value;
    return to;
}

int memcmp(const void *a, const void *b, size_t count) {
    const unsigned char *x = a, *y = b;
    for (size_t i = 0; i < count; i++)
        if (x[i] != y[i])
            return x[i] - y[i];
    return 0;
}

int strcmp(const char *a, const char *b) {
    while (*a && *a == *b)
        a++, b++;
    return *a - *b;
}

char *getenv(const char *name) {
    (void)name;
    return NULL;
}

double ldexp(double value, int exponent) {
    for (; exponent < 0; exponent++)
        value /= 2;
    return value;
}
