/* libcudart.so.13, the runtime: memory is the machine's own, kernels compute nothing, and captures are watched.

   Strict where the real one is: while a stream is captured nothing may be allocated or waited for, and memory ends.
   Functions that only have to succeed are written by libraries.py. Numbers and layouts are those of CUDA 13. */

#include <stdint.h>
#include <string.h>

#include "device.h"

enum { SUCCESS = 0, OUT_OF_MEMORY = 2, OLD_DRIVER = 35, NO_DEVICE = 100, CAPTURE_UNSUPPORTED = 900 };
enum { UNREGISTERED_MEMORY = 0, DEVICE_MEMORY = 2 };

/* What tests read: calls since the process began. */
long long stand_in_kernels, stand_in_captures, stand_in_replays, stand_in_refused_while_capturing;

static void *captured; /* the stream that is being captured */
static int last_error;

static int answer(int code) {
    if (code)
        last_error = code;
    return code;
}

static int refused_while_capturing(void) {
    if (captured)
        stand_in_refused_while_capturing++;
    return captured != NULL;
}

/* Memory. Each piece is remembered, so that its size is known when it is given back. */

struct piece {
    void *whole;
    char *start;
    size_t size;
    struct piece *next;
};

static struct piece *pieces;
unsigned long long stand_in_taken; /* bytes */
enum { ALIGNMENT = 512 };

static int take(void **place, size_t size) {
    if (refused_while_capturing())
        return answer(CAPTURE_UNSUPPORTED);
    if (stand_in_taken + size > memory())
        return answer(OUT_OF_MEMORY);
    struct piece *piece = malloc(sizeof *piece);
    /* Zeros: whatever a kernel would have written there, the numbers that are read are finite. */
    piece->whole = calloc(1, size + ALIGNMENT);
    if (!piece->whole) {
        free(piece);
        return answer(OUT_OF_MEMORY);
    }
    piece->start = (char *)(((uintptr_t)piece->whole + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    piece->size = size;
    piece->next = pieces;
    pieces = piece;
    stand_in_taken += size;
    *place = piece->start;
    return SUCCESS;
}

static int give_back(void *place) {
    for (struct piece **at = &pieces; *at; at = &(*at)->next) {
        if ((*at)->start != place)
            continue;
        struct piece *piece = *at;
        *at = piece->next;
        stand_in_taken -= piece->size;
        free(piece->whole);
        free(piece);
        break;
    }
    return SUCCESS;
}

static int is_on_device(const void *place) {
    for (struct piece *piece = pieces; piece; piece = piece->next)
        if ((char *)place >= piece->start && (char *)place < piece->start + piece->size)
            return 1;
    return 0;
}

int cudaMalloc(void **place, size_t size) { return take(place, size); }
int cudaMallocFromPoolAsync(void **place, size_t size, void *pool, void *stream) { return take(place, size); }
int cudaFree(void *place) { return give_back(place); }
int cudaFreeAsync(void *place, void *stream) { return give_back(place); }

int cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    *total = memory();
    *free_bytes = memory() > stand_in_taken ? memory() - stand_in_taken : 0;
    return SUCCESS;
}

static int host_memory(void **place, size_t size) {
    *place = malloc(size);
    return *place ? SUCCESS : answer(OUT_OF_MEMORY);
}

int cudaHostAlloc(void **place, size_t size, unsigned flags) { return host_memory(place, size); }
int cudaMallocHost(void **place, size_t size) { return host_memory(place, size); }

int cudaFreeHost(void *place) {
    free(place);
    return SUCCESS;
}

/* A copy on a stream is recorded like a kernel; one that waits cannot be. */

int cudaMemcpy(void *to, const void *from, size_t size, int kind) {
    if (refused_while_capturing())
        return answer(CAPTURE_UNSUPPORTED);
    memcpy(to, from, size);
    return SUCCESS;
}

int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
    memcpy(to, from, size);
    return SUCCESS;
}

int cudaMemcpy2DAsync(
    void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t rows, int kind, void *stream) {
    for (size_t row = 0; row < rows; row++)
        memcpy((char *)to + row * to_pitch, (const char *)from + row * from_pitch, width);
    return SUCCESS;
}

int cudaMemset(void *place, int value, size_t size) {
    memset(place, value, size);
    return SUCCESS;
}

int cudaMemsetAsync(void *place, int value, size_t size, void *stream) { return cudaMemset(place, value, size); }

struct pointer {
    int type, device;
    void *device_pointer, *host_pointer;
    long reserved[8];
};

int cudaPointerGetAttributes(struct pointer *facts, const void *place) {
    memset(facts, 0, sizeof *facts);
    facts->type = is_on_device(place) ? DEVICE_MEMORY : UNREGISTERED_MEMORY;
    facts->device_pointer = (void *)place;
    return SUCCESS;
}

/* Streams, events, memory pools, graphs: handles that differ from each other, and no more. */

static int handle(void **made) {
    *made = calloc(1, 64);
    return SUCCESS;
}

int cudaStreamCreate(void **stream) { return handle(stream); }
int cudaStreamCreateWithFlags(void **stream, unsigned flags) { return handle(stream); }
int cudaEventCreate(void **event) { return handle(event); }
int cudaEventCreateWithFlags(void **event, unsigned flags) { return handle(event); }
int cudaMemPoolCreate(void **pool, const void *facts) { return handle(pool); }

int cudaMemPoolGetAttribute(void *pool, int number, void *value) {
    *(uint64_t *)value = 0;
    return SUCCESS;
}

int cudaEventElapsedTime(float *milliseconds, void *from, void *to) {
    *milliseconds = 1;
    return SUCCESS;
}

int cudaStreamSynchronize(void *stream) {
    if (captured && stream == captured) {
        stand_in_refused_while_capturing++;
        return answer(CAPTURE_UNSUPPORTED);
    }
    return SUCCESS;
}

int cudaDeviceSynchronize(void) { return refused_while_capturing() ? answer(CAPTURE_UNSUPPORTED) : SUCCESS; }

/* Captures. What was captured is not kept: there is nothing to compute again. */

int cudaStreamBeginCapture(void *stream, int mode) {
    captured = stream;
    stand_in_captures++;
    return SUCCESS;
}

int cudaStreamEndCapture(void *stream, void **graph) {
    captured = NULL;
    return handle(graph);
}

int cudaStreamIsCapturing(void *stream, int *status) {
    *status = captured != NULL && stream == captured;
    return SUCCESS;
}

int cudaGraphInstantiate(void **runnable, void *graph, unsigned long long flags) { return handle(runnable); }

int cudaGraphLaunch(void *runnable, void *stream) {
    stand_in_replays++;
    return SUCCESS;
}

/* Kernels are registered, configured and launched, and do not run. */

struct dim3 {
    unsigned x, y, z;
};

void **__cudaRegisterFatBinary(void *binary) {
    static void *registered;
    return &registered;
}

unsigned __cudaPushCallConfiguration(struct dim3 blocks, struct dim3 threads, size_t shared, void *stream) { return 0; }

static int launch(void) {
    stand_in_kernels++;
    return SUCCESS;
}

int cudaLaunchKernel(void) { return launch(); }
int __cudaLaunchKernel(void) { return launch(); }
int cudaLaunchKernelExC(void) { return launch(); }
int cudaLaunchCooperativeKernel(void) { return launch(); }

struct function {
    size_t shared, constant, local;
    int threads, registers, ptx, binary, cache_mode, dynamic_shared, rest[23];
};

int cudaFuncGetAttributes(struct function *facts, const void *kernel) {
    memset(facts, 0, sizeof *facts);
    facts->threads = 1024;
    facts->registers = 32;
    facts->ptx = facts->binary = capability();
    return SUCCESS;
}

int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    int *blocks, const void *kernel, int threads, size_t shared, unsigned flags) {
    *blocks = 2;
    return SUCCESS;
}

/* The device. */

int cudaGetDeviceCount(int *count) {
    *count = devices();
    return driver_version() < 13000 ? answer(OLD_DRIVER) : devices() ? SUCCESS : answer(NO_DEVICE);
}

int cudaGetDevice(int *device) {
    *device = 0;
    return SUCCESS;
}

int cudaDeviceGetAttribute(int *value, int number, int device) {
    *value = attribute(number);
    return SUCCESS;
}

/* 1008 bytes, of which the named ones are told. */
struct device {
    char name[256], identity[32];
    size_t memory, shared_per_block;
    int registers_per_block, warp;
    size_t pitch;
    int threads_per_block, block_dims[3], grid_dims[3], gap;
    size_t constants;
    int major, minor;
    char before_processors[16];
    int processors;
    char before_concurrent[172];
    int concurrent_kernels;
    char before_cache[32];
    int cache, persisting, threads_per_processor;
    char before_shared[16];
    size_t shared_per_processor;
    int registers_per_processor;
    char before_most_shared[36];
    size_t most_shared_per_block;
    char rest[328];
};

_Static_assert(sizeof(struct device) == 1008, "the size of CUDA 13");

int cudaGetDeviceProperties(struct device *facts, int device) {
    memset(facts, 0, sizeof *facts);
    strcpy(facts->name, NAME);
    facts->memory = memory();
    facts->shared_per_block = 49152;
    facts->shared_per_processor = 233472;
    facts->most_shared_per_block = attribute(97);
    facts->registers_per_block = facts->registers_per_processor = 65536;
    facts->warp = 32;
    facts->threads_per_block = facts->block_dims[0] = facts->block_dims[1] = 1024;
    facts->block_dims[2] = 64;
    facts->grid_dims[0] = INT32_MAX;
    facts->grid_dims[1] = facts->grid_dims[2] = 65535;
    facts->major = capability() / 10;
    facts->minor = capability() % 10;
    facts->processors = PROCESSORS;
    facts->concurrent_kernels = 1;
    facts->cache = 50 << 20;
    facts->threads_per_processor = 2048;
    return SUCCESS;
}

int cudaDriverGetVersion(int *version) {
    *version = driver_version();
    return SUCCESS;
}

int cudaRuntimeGetVersion(int *version) {
    *version = 13000;
    return SUCCESS;
}

static int succeed(void) { return SUCCESS; }

int cudaGetDriverEntryPointByVersion(
    const char *name, void **function, unsigned version, unsigned long long flags, int *status) {
    *function = (void *)succeed;
    if (status)
        *status = 0;
    return SUCCESS;
}

/* Errors. */

int cudaGetLastError(void) {
    int code = last_error;
    last_error = SUCCESS;
    return code;
}

int cudaPeekAtLastError(void) { return last_error; }

static const char *words(int code) {
    switch (code) {
    case OUT_OF_MEMORY:
        return "out of memory";
    case OLD_DRIVER:
        return "CUDA driver version is insufficient for CUDA runtime version";
    case NO_DEVICE:
        return "no CUDA-capable device is detected";
    case CAPTURE_UNSUPPORTED:
        return "operation not permitted when stream is capturing";
    default:
        return "no error";
    }
}

const char *cudaGetErrorName(int code) { return words(code); }
const char *cudaGetErrorString(int code) { return words(code); }
