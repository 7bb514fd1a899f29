/* Writing .npz files. The whole file is laid out first and mapped, so that a run may write its outputs where they belong;
 * what depends on the data, the checksums, comes last. It has no name until it is complete, where the system can do that;
 * else it is written beside its place and renamed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "npy.h"

#define NAME_LIMIT 65000 /* ZIP has 16 bits for it */
#define HEADER_SIZE 1024 /* more than a shape of 32 dimensions needs */
#define LOCAL_SIZE 30u
#define ALIGNMENT 64u
#define PADDING_TAG 0xD935u /* the extra field by which zipalign pads */

typedef struct member {
  char *name;
  uint64_t local, data, size; /* offsets in the file; size: header and data */
  int64_t bytes;              /* of the data */
  uint32_t crc, header_bytes;
  char header[HEADER_SIZE];
} member;

struct planish_npz {
  char *path, *aside;
  bool named;   /* the file has the name `aside` already */
  bool shared;  /* `base` is the file; else a copy that is written in the end */
  int fd;
  uint8_t *base;
  uint64_t size, directory;
  member *members;
  int32_t count;
};

typedef struct writer { /* puts bytes at `to`; NULL: only counts them */
  uint8_t *to;
  uint64_t at;
} writer;

static void put(writer *w, const void *data, uint64_t bytes) {
  if (w->to && bytes) memcpy(w->to + w->at, data, (size_t)bytes);
  w->at += bytes;
}

static void put16(writer *w, uint64_t v) { put(w, (uint8_t[]){(uint8_t)v, (uint8_t)(v >> 8)}, 2); }
static void put32(writer *w, uint64_t v) { put16(w, v & 0xFFFF), put16(w, v >> 16); }
static void put64(writer *w, uint64_t v) { put32(w, v & 0xFFFFFFFFu), put32(w, v >> 32); }
static uint64_t cut32(uint64_t v) { return v < 0xFFFFFFFFu ? v : 0xFFFFFFFFu; }

/* The .npy header, padded so that the data begins at a multiple of 64 bytes of the member. Returns its length. */
static size_t npy_header(char *text, size_t size, const planish_array *array, const planish_dtype_info *info) {
  char descr[24];
  if (array->is_text) snprintf(descr, sizeof descr, "<U%" PRId64, array->width);
  else if (info->npy) snprintf(descr, sizeof descr, "%s", info->npy);
  else snprintf(descr, sizeof descr, info->dtype.bits > 8 ? "<u%d" : "|u%d", (info->dtype.bits + 7) / 8);
  size_t used = 10;
  used += (size_t)snprintf(text + used, size - used, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
  for (int32_t d = 0; d < array->rank; d++)
    used += (size_t)snprintf(text + used, size - used, "%" PRId64 "%s", array->shape[d],
                             array->rank == 1 ? "," : d + 1 < array->rank ? ", " : "");
  used += (size_t)snprintf(text + used, size - used, "), }");
  while (used % 64 != 63) text[used++] = ' ';
  text[used++] = '\n';
  memcpy(text, "\x93NUMPY\x01\x00", 8);
  text[8] = (char)((used - 10) & 255);
  text[9] = (char)((used - 10) >> 8);
  return used;
}

/* Everything of a member up to its data. The extra field fills up so that the data begins at a multiple of 64 bytes. */
static void put_local(writer *w, const member *m) {
  bool large = m->size >= 0xFFFFFFFFu;
  uint64_t name = strlen(m->name), wide = large ? 20 : 0, header = m->header_bytes;
  uint64_t padding = -(w->at + LOCAL_SIZE + name + wide + 4 + header) % ALIGNMENT;
  put32(w, 0x04034b50u);
  put16(w, large ? 45 : 20);
  put16(w, 0x0800); /* the name is UTF-8 */
  put16(w, 0);      /* stored */
  put32(w, 0x00210000u); /* 1980-01-01: the same result gives the same file */
  put32(w, m->crc);
  put32(w, cut32(m->size));
  put32(w, cut32(m->size));
  put16(w, name);
  put16(w, wide + 4 + padding);
  put(w, m->name, name);
  if (large) put16(w, 1), put16(w, 16), put64(w, m->size), put64(w, m->size);
  put16(w, PADDING_TAG), put16(w, padding);
  put(w, (const uint8_t[ALIGNMENT]){0}, padding);
  put(w, m->header, header);
}

static void put_entry(writer *w, const member *e) {
  bool large = e->size >= 0xFFFFFFFFu, far = e->local >= 0xFFFFFFFFu;
  unsigned extra = (large ? 16u : 0u) + (far ? 8u : 0u);
  put32(w, 0x02014b50u);
  put16(w, extra ? 45 : 20);
  put16(w, extra ? 45 : 20);
  put16(w, 0x0800);
  put16(w, 0);
  put32(w, 0x00210000u);
  put32(w, e->crc);
  put32(w, cut32(e->size));
  put32(w, cut32(e->size));
  put16(w, strlen(e->name));
  put16(w, extra ? extra + 4 : 0);
  put16(w, 0), put16(w, 0), put16(w, 0), put32(w, 0); /* comment, disk, internal and external attributes */
  put32(w, cut32(e->local));
  put(w, e->name, strlen(e->name));
  if (extra) put16(w, 1), put16(w, extra);
  if (large) put64(w, e->size), put64(w, e->size);
  if (far) put64(w, e->local);
}

static void put_end(writer *w, uint64_t start, uint64_t count) {
  uint64_t size = w->at - start, record = w->at;
  if (start >= 0xFFFFFFFFu || count >= 0xFFFFu) {
    put32(w, 0x06064b50u), put64(w, 44), put16(w, 45), put16(w, 45), put32(w, 0), put32(w, 0);
    put64(w, count), put64(w, count), put64(w, size), put64(w, start);
    put32(w, 0x07064b50u), put32(w, 0), put64(w, record), put32(w, 1);
  }
  put32(w, 0x06054b50u), put16(w, 0), put16(w, 0);
  put16(w, count < 0xFFFFu ? count : 0xFFFFu), put16(w, count < 0xFFFFu ? count : 0xFFFFu);
  put32(w, cut32(size)), put32(w, cut32(start)), put16(w, 0);
}

/* All but the data, at `to` (NULL: only where everything is). */
static void put_all(planish_npz *file, uint8_t *to) {
  writer w = {to, 0};
  for (int32_t i = 0; i < file->count; i++) {
    member *m = &file->members[i];
    m->local = w.at;
    put_local(&w, m);
    m->data = w.at;
    w.at += (uint64_t)m->bytes;
  }
  file->directory = w.at;
  for (int32_t i = 0; i < file->count; i++) put_entry(&w, &file->members[i]);
  put_end(&w, file->directory, (uint64_t)file->count);
  file->size = w.at;
}

static planish_status describe(member *m, const planish_array *array, planish_message *message) {
  const planish_dtype_info *info = planish_dtype_of(array->dtype);
  size_t name_size = strlen(array->name) + 32;
  planish_quoted shown;
  if (name_size - 32 > NAME_LIMIT)
    return planish_say(message, PLANISH_INVALID_ARGUMENT, "output %s: its name is too long for a .npz file",
                       planish_quote(&shown, array->name));
  if (!info && !array->is_text)
    return planish_say(message, PLANISH_FAILED, "output %s: a .npz file cannot hold its type",
                       planish_quote(&shown, array->name));
  bool raw = !array->is_text && !info->npy, nibbles = !array->is_text && info->dtype.bits < 8;
  m->name = malloc(name_size);
  if (!m->name) return planish_say(message, PLANISH_OUT_OF_MEMORY, "out of memory");
  snprintf(m->name, name_size, "%s%s%s.npy", array->name, raw ? ":" : "", raw ? info->name : "");
  m->bytes = nibbles ? planish_element_count(array->rank, array->shape) : array->bytes;
  m->header_bytes = (uint32_t)npy_header(m->header, sizeof m->header, array, info);
  m->size = m->header_bytes + (uint64_t)m->bytes;
  return PLANISH_OK;
}

/* ---- the file ---- */
static bool write_at(int fd, const uint8_t *data, uint64_t bytes, uint64_t offset) {
  while (bytes) {
    ssize_t done = pwrite(fd, data, bytes < (1u << 30) ? (size_t)bytes : 1u << 30, (off_t)offset);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return false;
    data += done, offset += (uint64_t)done, bytes -= (uint64_t)done;
  }
  return true;
}

/* Open a file without a name in the folder of `path`, or one of the name `aside`; 0, or errno. */
static int open_file(planish_npz *file) {
  struct stat old;
  if (stat(file->path, &old) == 0 && !S_ISREG(old.st_mode)) return S_ISDIR(old.st_mode) ? EISDIR : EINVAL;
#ifdef O_TMPFILE
  char *slash = strrchr(file->path, '/'), kept = slash ? slash[1] : 0;
  if (slash) slash[1] = 0;
  if (!access("/proc/self/fd", X_OK)) /* it gets its name through that */
    file->fd = open(slash ? file->path : ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
  if (slash) slash[1] = kept;
#endif
  if (file->fd >= 0) return 0;
  file->fd = open(file->aside, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  file->named = file->fd >= 0;
  return file->named ? 0 : errno;
}

/* Get the space for all of it, so that writing to the mapping cannot fail for a full disk, and map it; 0, or errno. */
static int map_file(planish_npz *file) {
  int reason = posix_fallocate(file->fd, 0, (off_t)file->size);
  if (reason && reason != EOPNOTSUPP && reason != EINVAL) return reason;
  void *base = reason ? MAP_FAILED
                      : mmap(NULL, (size_t)file->size, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd, 0);
  file->shared = base != MAP_FAILED;
  if (!file->shared) /* a file system that cannot do that */
    base = mmap(NULL, (size_t)file->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return errno;
  file->base = base;
  return 0;
}

/* Give the finished file its name; 0, or errno. */
static int put_in_place(planish_npz *file) {
  char self[40];
  if (!file->shared && !write_at(file->fd, file->base, file->size, 0)) return errno;
  snprintf(self, sizeof self, "/proc/self/fd/%d", file->fd);
  if (!file->named && linkat(AT_FDCWD, self, AT_FDCWD, file->aside, AT_SYMLINK_FOLLOW)) return errno;
  file->named = true;
  int fd = file->fd;
  file->fd = -1;
  if (close(fd) || rename(file->aside, file->path)) return errno;
  file->named = false;
  return 0;
}

static void destroy(planish_npz *file) {
  if (file->base) munmap(file->base, (size_t)file->size);
  if (file->fd >= 0) close(file->fd);
  if (file->named) unlink(file->aside);
  for (int32_t i = 0; file->members && i < file->count; i++) free(file->members[i].name);
  free(file->members);
  free(file->aside);
  free(file->path);
  free(file);
}

static planish_status refuse(planish_npz *file, int reason, planish_message *message) {
  planish_quoted shown;
  planish_say(message, PLANISH_FAILED, "%s: cannot be written: %s", planish_quote(&shown, file->path),
              strerror(reason));
  destroy(file);
  return PLANISH_FAILED;
}

planish_status planish_npz_create(const char *path, const planish_array *arrays, int32_t count, planish_npz **out,
                                  planish_message *message) {
  planish_npz *file = calloc(1, sizeof *file);
  size_t size = strlen(path) + 32;
  *out = NULL;
  if (!file) return planish_say(message, PLANISH_OUT_OF_MEMORY, "out of memory");
  file->fd = -1;
  file->count = count;
  file->path = strdup(path);
  file->aside = malloc(size);
  file->members = calloc((size_t)count + 1, sizeof *file->members);
  planish_status status = PLANISH_OK;
  if (!file->path || !file->aside || !file->members)
    status = planish_say(message, PLANISH_OUT_OF_MEMORY, "out of memory");
  for (int32_t i = 0; i < count && !status; i++) status = describe(&file->members[i], &arrays[i], message);
  if (status) {
    destroy(file);
    return status;
  }
  snprintf(file->aside, size, "%s.%ld.tmp", path, (long)getpid());
  put_all(file, NULL);
  int reason = open_file(file);
  if (!reason) reason = map_file(file);
  if (reason) return refuse(file, reason, message);
  *out = file;
  return PLANISH_OK;
}

void *planish_npz_data(const planish_npz *file, int32_t index) { return file->base + file->members[index].data; }

planish_status planish_npz_close(planish_npz *file, bool keep, planish_message *message) {
  int reason = 0;
  if (keep) {
    for (int32_t i = 0; i < file->count; i++) {
      member *m = &file->members[i];
      uint32_t crc = planish_crc32(0, m->header, m->header_bytes);
      m->crc = planish_crc32(crc, file->base + m->data, (size_t)m->bytes);
    }
    put_all(file, file->base);
    reason = put_in_place(file);
  }
  if (reason) return refuse(file, reason, message);
  destroy(file);
  return PLANISH_OK;
}

/* Elements of 4 and 2 bits: one in a byte in the file. */
static void unpack_elements(uint8_t *to, const uint8_t *data, int64_t count, int bits) {
  int each = 8 / bits;
  for (int64_t i = 0; i < count; i++) to[i] = (uint8_t)(data[i / each] >> (i % each * bits) & ((1 << bits) - 1));
}

planish_status planish_npz_save(const char *path, const planish_array *arrays, int32_t count,
                                planish_message *message) {
  planish_npz *file;
  planish_status status = planish_npz_create(path, arrays, count, &file, message);
  if (status) return status;
  for (int32_t i = 0; i < count; i++) {
    void *to = planish_npz_data(file, i);
    int64_t bytes = file->members[i].bytes;
    if (!arrays[i].is_text && arrays[i].dtype.bits < 8)
      unpack_elements(to, arrays[i].data, bytes, arrays[i].dtype.bits);
    else if (bytes) memcpy(to, arrays[i].data, (size_t)bytes);
  }
  return planish_npz_close(file, true, message);
}
