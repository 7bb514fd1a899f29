/* NumPy files: .npy, and .npz (a ZIP archive of stored .npy files). Part of the executable only. */
#ifndef PLANISH_NPY_H
#define PLANISH_NPY_H

#include <stdio.h>

#include "internal.h"

typedef struct planish_array {
  char *name; /* without ".npy" and without a type suffix such as ":bf16" */
  planish_dtype dtype;
  int32_t rank;
  int64_t shape[PLANISH_MAX_RANK];
  void *data; /* row-major, aligned to the element size; never NULL in an array that was read */
  int64_t bytes;
  void *mapping; /* what to unmap, if `mapped`: `data` is in a mapped file. Else it is from malloc */
  size_t mapped;
  bool is_text;  /* NumPy's '<U': `width` code points of 4 bytes for each element, filled up with NULs */
  int64_t width;
} planish_array;

typedef struct planish_arrays {
  planish_array *items;
  int32_t count;
} planish_arrays;

/* A source of bytes: `length` bytes of an open file from `offset` on. */
typedef struct planish_source {
  int fd;
  const char *path; /* for messages */
  uint64_t offset, length;
} planish_source;

/* block.c. Memory for `bytes` bytes, aligned to 64 bytes: large blocks are in a temporary file without a name, which the
 * kernel may write out when memory is short, as it may drop what is mapped from any file. False: no memory. */
bool planish_array_allocate(planish_array *array, int64_t bytes);
/* Map the array's `bytes` at `offset` of the source, for reading; false: it is small, or this file cannot be mapped. */
bool planish_array_map(planish_array *array, const planish_source *source, uint64_t offset);
void planish_array_release(planish_array *array); /* its data, not its name */

/* Split "x:bf16" into "x" and its type; NULL if the name has no such suffix. Cuts `name`. */
const planish_dtype_info *planish_raw_suffix(char *name);
/* Read one array. `raw`: the type that its raw bits stand for, or NULL. */
planish_status planish_npy_read(const planish_source *source, const planish_dtype_info *raw, planish_array *array,
                                planish_message *message);
/* Open FILE.npy and read it as `name`, which may carry a raw type. Cuts `name`. */
planish_status planish_npy_load(const char *path, char *name, planish_array *array, planish_message *message);
planish_status planish_npz_load(const char *path, planish_arrays *arrays, planish_message *message);

/* Writing an .npz: `path` holds the old file or the whole new one, whatever happens. */
typedef struct planish_npz planish_npz;
/* Lay out a file of arrays of these names, types and shapes. Then planish_npz_data(file, i) is the place of the data of
 * array i in the mapped file, aligned to 64 bytes, for the caller to fill (4-bit elements: one in a byte). */
planish_status planish_npz_create(const char *path, const planish_array *arrays, int32_t count, planish_npz **file,
                                  planish_message *message);
void *planish_npz_data(const planish_npz *file, int32_t index);
/* Put the file, all of whose data is there, in its place; or, with `keep` false, forget it. Frees `file`. */
planish_status planish_npz_close(planish_npz *file, bool keep, planish_message *message);
/* All of it, with the data of the arrays. */
planish_status planish_npz_save(const char *path, const planish_array *arrays, int32_t count, planish_message *message);

void planish_arrays_free(planish_arrays *arrays);
/* pread all of it; false at an error or the end of the file. */
bool planish_read_at(int fd, void *data, uint64_t bytes, uint64_t offset);
uint32_t planish_crc32(uint32_t crc, const void *data, size_t bytes);

#endif
