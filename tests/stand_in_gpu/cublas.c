/* libcublas.so.13: handles; its products are not computed. */

#include <stdlib.h>

int cublasCreate_v2(void **made) {
    *made = calloc(1, 64);
    return 0;
}

int cublasGetMathMode(void *handle, int *mode) {
    *mode = 0;
    return 0;
}

const char *cublasGetStatusName(int status) { return "a status of the stand-in"; }
const char *cublasGetStatusString(int status) { return "a status of the stand-in"; }
