/* libcudnn.so.9: descriptions, and sizes that are small. The package looks functions up by name when it needs them.

   Nothing of the package is linked with it, so that every function it may look up is here by name. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MADE(name) \
    int name(void **made) { \
        *made = calloc(1, 512); \
        return 0; \
    }
#define DONE(name) \
    int name(void) { return 0; }

MADE(cudnnCreate)
MADE(cudnnCreateActivationDescriptor)
MADE(cudnnCreateConvolutionDescriptor)
MADE(cudnnCreateDropoutDescriptor)
MADE(cudnnCreateFilterDescriptor)
MADE(cudnnCreateLRNDescriptor)
MADE(cudnnCreatePoolingDescriptor)
MADE(cudnnCreateRNNDataDescriptor)
MADE(cudnnCreateRNNDescriptor)
MADE(cudnnCreateReduceTensorDescriptor)
MADE(cudnnCreateTensorDescriptor)

DONE(cudnnActivationForward)
DONE(cudnnAddTensor)
DONE(cudnnConvolutionBiasActivationForward)
DONE(cudnnConvolutionForward)
DONE(cudnnDestroy)
DONE(cudnnDestroyActivationDescriptor)
DONE(cudnnDestroyConvolutionDescriptor)
DONE(cudnnDestroyDropoutDescriptor)
DONE(cudnnDestroyFilterDescriptor)
DONE(cudnnDestroyLRNDescriptor)
DONE(cudnnDestroyPoolingDescriptor)
DONE(cudnnDestroyRNNDataDescriptor)
DONE(cudnnDestroyRNNDescriptor)
DONE(cudnnDestroyReduceTensorDescriptor)
DONE(cudnnDestroyTensorDescriptor)
DONE(cudnnGetStream)
DONE(cudnnReduceTensor)
DONE(cudnnRNNForward)
DONE(cudnnSetActivationDescriptor)
DONE(cudnnSetConvolutionGroupCount)
DONE(cudnnSetConvolutionMathType)
DONE(cudnnSetConvolutionNdDescriptor)
DONE(cudnnSetDropoutDescriptor)
DONE(cudnnSetFilterNdDescriptor)
DONE(cudnnSetRNNDataDescriptor)
DONE(cudnnSetRNNDescriptor_v8)
DONE(cudnnSetReduceTensorDescriptor)
DONE(cudnnSetStream)
DONE(cudnnSetTensorNdDescriptor)
DONE(cudnnSoftmaxForward)

size_t cudnnGetVersion(void) { return 91400; }
size_t cudnnGetCudartVersion(void) { return 13000; }
const char *cudnnGetErrorString(int status) { return "a status of the stand-in"; }

void cudnnGetLastErrorString(char *words, size_t size) { strncpy(words, "an error of the stand-in", size); }

enum { WORKSPACE = 256 };

static int size_of(size_t *size) {
    *size = WORKSPACE;
    return 0;
}

int cudnnDropoutGetStatesSize(void *handle, size_t *size) { return size_of(size); }
int cudnnGetRNNWeightSpaceSize(void *handle, void *layers, size_t *size) { return size_of(size); }
int cudnnGetReductionIndicesSize(void *handle, void *reduction, void *from, void *to, size_t *size) {
    return size_of(size);
}
int cudnnGetReductionWorkspaceSize(void *handle, void *reduction, void *from, void *to, size_t *size) {
    return size_of(size);
}
int cudnnGetConvolutionForwardWorkspaceSize(
    void *handle, void *input, void *weight, void *convolution, void *output, int algorithm, size_t *size) {
    return size_of(size);
}

int cudnnGetRNNTempSpaceSizes(void *handle, void *layers, int mode, void *input, size_t *work, size_t *reserve) {
    *reserve = WORKSPACE;
    return size_of(work);
}

/* Where one gate's weights go among all: at the beginning, one number of each. */
int cudnnGetRNNWeightParams(
    void *handle,
    void *layers,
    int layer,
    size_t size,
    const void *weights,
    int gate,
    void *matrix,
    void **matrix_place,
    void *bias,
    void **bias_place) {
    *matrix_place = *bias_place = (void *)weights;
    return 0;
}

int cudnnGetTensorNdDescriptor(void *tensor, int wanted, int *type, int *axes, int *sizes, int *strides) {
    *type = 0;
    *axes = wanted;
    for (int axis = 0; axis < wanted; axis++)
        sizes[axis] = strides[axis] = 1;
    return 0;
}

/* Convolutions and attention as graphs: whatever is described, there is one plan for it, which needs no memory. */

enum { INT64 = 3, DESCRIPTION = 15, INT32 = 23 };

int cudnnBackendCreateDescriptor(int kind, void **made) { return cudnnCreate(made); }
int cudnnBackendDestroyDescriptor(void *description) { return 0; }
int cudnnBackendFinalize(void *description) { return 0; }
int cudnnBackendExecute(void *handle, void *plan, void *places) { return 0; }

int cudnnBackendSetAttribute(void *description, int name, int type, int64_t count, const void *values) { return 0; }

int cudnnBackendGetAttribute(
    const void *description, int name, int type, int64_t wanted, int64_t *count, void *values) {
    if (count)
        *count = type == DESCRIPTION || type == INT64 || type == INT32;
    if (wanted && values && (type == INT64 || type == INT32))
        memset(values, 0, type == INT64 ? 8 : 4);
    return 0;
}

/* The ways to compute a convolution: one, which is the first. */

struct way {
    int algorithm, status;
    float milliseconds;
    size_t memory;
    int rest[5];
};

static int one_way(int *count, struct way *ways) {
    memset(ways, 0, sizeof *ways);
    *count = 1;
    return 0;
}

int cudnnGetConvolutionForwardAlgorithm_v7(
    void *handle, void *input, void *weight, void *convolution, void *output, int wanted, int *count, struct way *ways) {
    return one_way(count, ways);
}

int cudnnFindConvolutionForwardAlgorithmEx(
    void *handle,
    void *input,
    const void *input_data,
    void *weight,
    const void *weight_data,
    void *convolution,
    void *output,
    void *output_data,
    int wanted,
    int *count,
    struct way *ways) {
    return one_way(count, ways);
}
