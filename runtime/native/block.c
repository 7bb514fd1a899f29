/* Memory of arrays: on the heap, in a file that was given, or in a file without a name. The executable only. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "npy.h"

#define ON_HEAP (128 << 10) /* so much is not worth a file */

/* A file without a name in the folder for temporary files, all of it there (writing to a hole could fail when the disk
 * is full, which would be a SIGBUS); -1 if there is none. */
static int nameless_file(size_t bytes) {
#ifdef O_TMPFILE
  const char *folder = getenv("TMPDIR");
  int fd = open(folder && *folder ? folder : "/tmp", O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0 && posix_fallocate(fd, 0, (off_t)bytes)) {
    close(fd);
    fd = -1;
  }
  return fd;
#else
  (void)bytes;
  return -1;
#endif
}

static bool map_file(planish_array *array, size_t bytes) {
  int fd = nameless_file(bytes);
  if (fd < 0) return false;
  void *mapping = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (mapping == MAP_FAILED) return false;
  array->data = array->mapping = mapping;
  array->mapped = bytes;
  return true;
}

bool planish_array_allocate(planish_array *array, int64_t bytes) {
  size_t size = ((size_t)bytes + 64) / 64 * 64;
  if (size > ON_HEAP && map_file(array, size)) return true;
  array->data = aligned_alloc(64, size);
  return array->data != NULL;
}

bool planish_array_map(planish_array *array, const planish_source *source, uint64_t offset) {
  uint64_t at = source->offset + offset, page = (uint64_t)sysconf(_SC_PAGESIZE), begin = at / page * page;
  size_t size = (size_t)(array->bytes + (int64_t)(at - begin));
  if (array->bytes <= ON_HEAP) return false;
  uint8_t *mapping = mmap(NULL, size, PROT_READ, MAP_PRIVATE, source->fd, (off_t)begin);
  if (mapping == MAP_FAILED) return false;
  array->mapping = mapping;
  array->mapped = size;
  array->data = mapping + (at - begin);
  return true;
}

void planish_array_release(planish_array *array) {
  if (array->mapped) munmap(array->mapping, array->mapped);
  else free(array->data);
  array->data = array->mapping = NULL;
  array->mapped = 0;
}
