/* libcublasLt.so.13: handles and descriptions, and one way to compute each product, which is not computed. */

#include <stdlib.h>

static int made(void **place) {
    *place = calloc(1, 512);
    return 0;
}

int cublasLtCreate(void **handle) { return made(handle); }
int cublasLtMatmulDescCreate(void **description) { return made(description); }
int cublasLtMatmulPreferenceCreate(void **preference) { return made(preference); }
int cublasLtMatrixLayoutCreate(void **layout) { return made(layout); }
int cublasLtMatrixTransformDescCreate(void **description) { return made(description); }

int cublasLtMatmulAlgoGetHeuristic(
    void *handle,
    void *product,
    void *a,
    void *b,
    void *c,
    void *d,
    void *preference,
    int wanted,
    void *found,
    int *count) {
    *count = 1;
    return 0;
}
