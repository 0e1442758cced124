/* libcuda.so.1, the driver: what jisu asks it before it loads anything, and what onnxruntime-gpu links from it. */

#include <string.h>

#include "device.h"

enum { SUCCESS = 0, NO_DEVICE = 100 };

int cuInit(unsigned flags) {
    (void)flags;
    return devices() ? SUCCESS : NO_DEVICE;
}

int cuDriverGetVersion(int *version) {
    *version = driver_version();
    return SUCCESS;
}

int cuDeviceGetCount(int *count) {
    *count = devices();
    return SUCCESS;
}

int cuDeviceGet(int *device, int index) {
    *device = index;
    return SUCCESS;
}

int cuDeviceGetName(char *name, int length, int device) {
    (void)device;
    strncpy(name, NAME, length);
    return SUCCESS;
}

int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    (void)device;
    *bytes = memory();
    return SUCCESS;
}

int cuDeviceGetAttribute(int *value, int number, int device) {
    (void)device;
    *value = attribute(number);
    return SUCCESS;
}
