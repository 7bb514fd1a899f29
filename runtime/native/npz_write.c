/* Writing .npz files, beside their place and then renamed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "npy.h"

#define NAME_LIMIT 65000 /* ZIP has 16 bits for it */

typedef struct writer {
  int fd;
  bool failed; /* errno says why */
  uint64_t at; /* bytes given out so far */
  size_t used;
  uint8_t buffer[1 << 16];
} writer;

static void flush(writer *w, const uint8_t *data, size_t bytes) {
  while (bytes && !w->failed) {
    ssize_t done = write(w->fd, data, bytes < (1u << 30) ? bytes : 1u << 30);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) w->failed = true;
    else data += done, bytes -= (size_t)done;
  }
}

static void put(writer *w, const void *data, uint64_t bytes) {
  w->at += bytes;
  if (bytes > sizeof w->buffer - w->used) {
    flush(w, w->buffer, w->used);
    w->used = 0;
    if (bytes >= sizeof w->buffer) {
      flush(w, data, (size_t)bytes);
      return;
    }
  }
  if (bytes) memcpy(w->buffer + w->used, data, (size_t)bytes);
  w->used += (size_t)bytes;
}

static void put16(writer *w, uint64_t v) { put(w, (uint8_t[]){(uint8_t)v, (uint8_t)(v >> 8)}, 2); }
static void put32(writer *w, uint64_t v) { put16(w, v & 0xFFFF), put16(w, v >> 16); }
static void put64(writer *w, uint64_t v) { put32(w, v & 0xFFFFFFFFu), put32(w, v >> 32); }
static uint64_t cut32(uint64_t v) { return v < 0xFFFFFFFFu ? v : 0xFFFFFFFFu; }

typedef struct entry { /* one member as the directory lists it */
  char *name;
  uint64_t size, local;
  uint32_t crc;
} entry;

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

static void put_local(writer *w, const entry *e) {
  bool large = e->size >= 0xFFFFFFFFu;
  put32(w, 0x04034b50u);
  put16(w, large ? 45 : 20);
  put16(w, 0x0800); /* the name is UTF-8 */
  put16(w, 0);      /* stored */
  put32(w, 0x00210000u); /* 1980-01-01: the same result gives the same file */
  put32(w, e->crc);
  put32(w, cut32(e->size));
  put32(w, cut32(e->size));
  put16(w, strlen(e->name));
  put16(w, large ? 20 : 0);
  put(w, e->name, strlen(e->name));
  if (large) put16(w, 1), put16(w, 16), put64(w, e->size), put64(w, e->size);
}

static void put_entry(writer *w, const entry *e) {
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
  put16(w, 0);  /* comment */
  put16(w, 0);  /* disk */
  put16(w, 0);  /* internal attributes */
  put32(w, 0);  /* external attributes */
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

/* 4-bit elements: one in a byte in the file. */
static uint8_t *unpack_nibbles(const uint8_t *data, int64_t count) {
  uint8_t *out = malloc((size_t)count + 1);
  for (int64_t i = 0; out && i < count; i++) out[i] = (uint8_t)(data[i / 2] >> (i % 2 * 4) & 15);
  return out;
}

static bool put_array(writer *w, const planish_array *array, entry *e) {
  char header[1024];
  const planish_dtype_info *info = planish_dtype_of(array->dtype);
  size_t name_size = strlen(array->name) + 32;
  e->name = malloc(name_size);
  if ((!info && !array->is_text) || !e->name) return false;
  bool raw = !array->is_text && !info->npy;
  snprintf(e->name, name_size, "%s%s%s.npy", array->name, raw ? ":" : "", raw ? info->name : "");
  const uint8_t *data = array->data;
  uint8_t *unpacked = NULL;
  int64_t bytes = array->bytes;
  if (!array->is_text && info->dtype.bits == 4) {
    bytes = planish_element_count(array->rank, array->shape);
    data = unpacked = unpack_nibbles(array->data, bytes);
    if (!unpacked) return false;
  }
  size_t length = npy_header(header, sizeof header, array, info);
  e->crc = planish_crc32(planish_crc32(0, header, length), data, (size_t)bytes);
  e->size = length + (uint64_t)bytes;
  e->local = w->at;
  put_local(w, e);
  put(w, header, length);
  put(w, data, (uint64_t)bytes);
  free(unpacked);
  return true;
}

static planish_status write_all(int fd, const planish_array *arrays, int32_t count) {
  writer *w = calloc(1, sizeof *w);
  entry *entries = calloc((size_t)count + 1, sizeof *entries);
  bool good = w && entries;
  if (good) w->fd = fd;
  for (int32_t i = 0; i < count && good; i++) good = put_array(w, &arrays[i], &entries[i]);
  if (good) {
    uint64_t start = w->at;
    for (int32_t i = 0; i < count; i++) put_entry(w, &entries[i]);
    put_end(w, start, (uint64_t)count);
    flush(w, w->buffer, w->used);
  }
  bool failed = good && w->failed;
  for (int32_t i = 0; entries && i < count; i++) free(entries[i].name);
  free(entries);
  free(w);
  return failed ? PLANISH_FAILED : good ? PLANISH_OK : PLANISH_OUT_OF_MEMORY;
}

planish_status planish_npz_save(const char *path, const planish_array *arrays, int32_t count, planish_message *message) {
  planish_quoted shown;
  struct stat old;
  size_t size = strlen(path) + 32;
  char *aside = malloc(size);
  if (!aside) return planish_say(message, PLANISH_OUT_OF_MEMORY, "out of memory");
  for (int32_t i = 0; i < count; i++)
    if (strlen(arrays[i].name) > NAME_LIMIT) {
      free(aside);
      return planish_say(message, PLANISH_INVALID_ARGUMENT, "output %s: its name is too long for a .npz file",
                         planish_quote(&shown, arrays[i].name));
    }
  snprintf(aside, size, "%s.%ld.tmp", path, (long)getpid());
  const char *action = "cannot be written";
  int fd = -1, reason = 0;
  if (stat(path, &old) == 0 && !S_ISREG(old.st_mode)) reason = S_ISDIR(old.st_mode) ? EISDIR : EINVAL;
  if (!reason && (fd = open(aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) < 0) reason = errno;
  planish_status status = reason ? PLANISH_FAILED : write_all(fd, arrays, count);
  if (fd >= 0) {
    if (status && !reason) reason = status == PLANISH_OUT_OF_MEMORY ? ENOMEM : errno;
    if (close(fd) && !status) status = PLANISH_FAILED, reason = errno;
    if (!status && rename(aside, path)) status = PLANISH_FAILED, reason = errno;
    if (status) unlink(aside);
  }
  free(aside);
  if (!status) return PLANISH_OK;
  return planish_say(message, status, "%s: %s: %s", planish_quote(&shown, path), action, strerror(reason));
}
