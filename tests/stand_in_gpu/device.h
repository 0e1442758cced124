/* What both the driver and the runtime say of the pretended GPU, and the faults that a test asks of it.

   A fault is an environment variable that is read anew at every call, so that a test can let memory run out after a
   model was opened. */

#ifndef STAND_IN_DEVICE_H
#define STAND_IN_DEVICE_H

#include <stdlib.h>

#define NAME "Stand-in that computes nothing"
#define PROCESSORS 132
#define GIB (1ull << 30)

static inline long long setting(const char *variable, long long otherwise) {
    const char *value = getenv(variable);
    return value && *value ? atoll(value) : otherwise;
}

static inline int devices(void) { return (int)setting("STAND_IN_DEVICES", 1); }

/* The newest CUDA that the driver runs: 13000 is 13.0. */
static inline int driver_version(void) { return (int)setting("STAND_IN_DRIVER", 13000); }

/* Compute capability, 90 for 9.0. */
static inline int capability(void) { return (int)setting("STAND_IN_CAPABILITY", 90); }

/* Bytes of the GPU's memory. */
static inline unsigned long long memory(void) { return (unsigned long long)setting("STAND_IN_MEMORY", 80 * GIB); }

/* Answers to a query by number, the same numbers in driver and runtime. What no one reads is 1: "yes", or "one". */
static inline int attribute(int number) {
    switch (number) {
    case 1: /* threads in a block */
        return 1024;
    case 16:
        return PROCESSORS;
    case 75:
        return capability() / 10;
    case 76:
        return capability() % 10;
    case 97: /* shared memory that a block may ask for */
        return 232448;
    default:
        return 1;
    }
}

#endif
