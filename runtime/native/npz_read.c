/* Reading .npz files: ZIP archives of stored members, with 64-bit sizes. From anybody: nothing in them is believed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "npy.h"

#define MEMBERS_LIMIT 65536u
#define DIRECTORY_LIMIT (64u << 20)
#define NAME_LIMIT 4096u
#define END_SIZE 22u
#define ENTRY_SIZE 46u
#define LOCAL_SIZE 30u

typedef struct directory {
  uint64_t offset, size, count;
} directory;

typedef struct member {
  uint16_t flags, method;
  uint32_t crc;
  uint64_t packed, size, local;
  const uint8_t *name;
  uint16_t name_length;
} member;

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] | at[1] << 8); }
static uint32_t get32(const uint8_t *at) { return (uint32_t)get16(at) | (uint32_t)get16(at + 2) << 16; }
static uint64_t get64(const uint8_t *at) { return (uint64_t)get32(at) | (uint64_t)get32(at + 4) << 32; }

static planish_status damaged(const planish_source *file, const char *what, planish_message *message) {
  planish_quoted shown;
  return planish_say(message, PLANISH_INVALID_ARGUMENT,
                     "%s: expected a .npz file as numpy.savez writes it: %s; it is cut off, damaged or of another kind",
                     planish_quote(&shown, file->path), what);
}

/* Find the central directory from the record at the end of the file, which a comment of up to 64 KiB may follow. */
static planish_status find_directory(const planish_source *file, directory *found, planish_message *message) {
  uint64_t window = file->length < END_SIZE + 65535u ? file->length : END_SIZE + 65535u, at = 0;
  if (file->length < END_SIZE) return damaged(file, "the file is too short", message);
  uint8_t *tail = malloc((size_t)window);
  if (!tail) return planish_say(message, PLANISH_OUT_OF_MEMORY, "out of memory");
  bool good = planish_read_at(file->fd, tail, window, file->length - window);
  for (at = window - END_SIZE; good; at--) {
    if (get32(tail + at) == 0x06054b50u && get16(tail + at + 20) + at + END_SIZE == window) break;
    good = at > 0;
  }
  if (good) *found = (directory){get32(tail + at + 16), get32(tail + at + 12), get16(tail + at + 10)};
  uint64_t end = file->length - window + at;
  free(tail);
  if (!good) return damaged(file, "no end-of-archive record", message);
  uint8_t locator[20], record[56];
  if (end >= 20 && planish_read_at(file->fd, locator, 20, end - 20) && get32(locator) == 0x07064b50u) { /* zip64 */
    uint64_t place = get64(locator + 8);
    if (file->length < 56 || place > file->length - 56 || !planish_read_at(file->fd, record, 56, place) ||
        get32(record) != 0x06064b50u)
      return damaged(file, "its zip64 record is wrong", message);
    *found = (directory){get64(record + 48), get64(record + 40), get64(record + 32)};
  }
  if (found->offset > end || found->size > end - found->offset || found->size > DIRECTORY_LIMIT ||
      found->count > MEMBERS_LIMIT || found->count > found->size / ENTRY_SIZE)
    return damaged(file, "its directory is wrong", message);
  return PLANISH_OK;
}

/* Sizes that do not fit into 32 bits stand in the extra field of tag 1, in this order, those that are needed only. */
static bool read_zip64(const uint8_t *extra, uint32_t length, member *m) {
  bool need_size = m->size == 0xFFFFFFFFu, need_packed = m->packed == 0xFFFFFFFFu, need_local = m->local == 0xFFFFFFFFu;
  if (!need_size && !need_packed && !need_local) return true;
  for (uint32_t at = 0; at + 4 <= length;) {
    uint32_t tag = get16(extra + at), size = get16(extra + at + 2);
    at += 4;
    if (size > length - at) return false;
    if (tag == 1) {
      uint32_t needed = 8u * ((uint32_t)need_size + (uint32_t)need_packed + (uint32_t)need_local);
      if (size < needed) return false;
      if (need_size) m->size = get64(extra + at), at += 8;
      if (need_packed) m->packed = get64(extra + at), at += 8;
      if (need_local) m->local = get64(extra + at);
      return true;
    }
    at += size;
  }
  return false;
}

/* The entry at `at` of the directory; returns its length, or 0 if it is wrong. */
static uint64_t read_entry(const uint8_t *at, uint64_t left, member *m) {
  if (left < ENTRY_SIZE || get32(at) != 0x02014b50u) return 0;
  uint16_t name = get16(at + 28), extra = get16(at + 30), comment = get16(at + 32);
  uint64_t length = (uint64_t)ENTRY_SIZE + name + extra + comment;
  if (length > left || name > NAME_LIMIT) return 0;
  *m = (member){get16(at + 8), get16(at + 10), get32(at + 16), get32(at + 20), get32(at + 24), get32(at + 42),
                at + ENTRY_SIZE, name};
  return read_zip64(at + ENTRY_SIZE + name, extra, m) ? length : 0;
}

static bool checksum_is(const planish_source *part, uint32_t expected) {
  enum { BLOCK = 1 << 18 };
  uint8_t *block = malloc(BLOCK);
  uint32_t crc = 0;
  bool good = block != NULL;
  for (uint64_t at = 0; good && at < part->length; at += BLOCK) {
    uint64_t bytes = part->length - at < BLOCK ? part->length - at : BLOCK;
    good = planish_read_at(part->fd, block, bytes, part->offset + at);
    crc = planish_crc32(crc, block, (size_t)bytes);
  }
  free(block);
  return good && crc == expected;
}

static planish_status read_member(const planish_source *file, const member *m, planish_array *array,
                                  planish_message *message) {
  uint8_t local[LOCAL_SIZE];
  char label[200];
  planish_quoted shown;
  char *name = strndup((const char *)m->name, m->name_length);
  if (!name) return planish_say(message, PLANISH_OUT_OF_MEMORY, "out of memory");
  size_t length = strlen(name);
  if (length > 4 && !strcmp(name + length - 4, ".npy")) name[length - 4] = 0;
  array->name = name; /* freed with the arrays, whatever happens */
  snprintf(label, sizeof label, "%.60s, array %.100s",
           strrchr(file->path, '/') ? strrchr(file->path, '/') + 1 : file->path, planish_quote(&shown, name));
  planish_source part = {file->fd, label, 0, m->size};
  if (m->flags & 1) return planish_say(message, PLANISH_INVALID_ARGUMENT, "%s: it is encrypted", label);
  if (m->method != 0)
    return planish_say(message, PLANISH_INVALID_ARGUMENT,
                       "%s: it is compressed (method %u); save it with numpy.savez instead of numpy.savez_compressed",
                       label, m->method);
  if (m->packed != m->size || m->local > file->length || file->length - m->local < LOCAL_SIZE ||
      !planish_read_at(file->fd, local, LOCAL_SIZE, m->local) || get32(local) != 0x04034b50u)
    return damaged(file, "a member's place is wrong", message);
  part.offset = m->local + LOCAL_SIZE + get16(local + 26) + get16(local + 28);
  if (part.offset > file->length || m->size > file->length - part.offset)
    return damaged(file, "a member is longer than the file", message);
  if (!checksum_is(&part, m->crc)) return damaged(file, "the checksum of a member is wrong", message);
  return planish_npy_read(&part, planish_raw_suffix(name), array, message);
}

static planish_status read_members(const planish_source *file, const directory *d, planish_arrays *arrays,
                                   planish_message *message) {
  uint8_t *entries = malloc((size_t)d->size + 1);
  arrays->items = calloc((size_t)d->count + 1, sizeof *arrays->items);
  planish_status status = entries && arrays->items ? PLANISH_OK : PLANISH_OUT_OF_MEMORY;
  if (!status && !planish_read_at(file->fd, entries, d->size, d->offset))
    status = damaged(file, "its directory cannot be read", message);
  uint64_t at = 0, total = 0;
  for (uint64_t i = 0; i < d->count && !status; i++) {
    member m;
    uint64_t length = read_entry(entries + at, d->size - at, &m);
    at += length;
    if (!length) {
      status = damaged(file, "an entry of its directory is wrong", message);
    } else if (m.method == 0 &&
               m.size > file->length - total) { /* members that overlap would multiply the file in memory */
      status = damaged(file, "its members are longer than the file", message);
    } else {
      if (m.method == 0) total += m.size;
      status = read_member(file, &m, &arrays->items[arrays->count++], message);
    }
  }
  free(entries);
  if (status) planish_arrays_free(arrays);
  return status;
}

planish_status planish_npz_load(const char *path, planish_arrays *arrays, planish_message *message) {
  struct stat info;
  planish_quoted shown;
  directory found = {0, 0, 0};
  *arrays = (planish_arrays){NULL, 0};
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0 || fstat(fd, &info)) {
    planish_say(message, PLANISH_INVALID_ARGUMENT, "%s: cannot be opened: %s", planish_quote(&shown, path),
                strerror(errno));
    if (fd >= 0) close(fd);
    return PLANISH_INVALID_ARGUMENT;
  }
  planish_status status;
  planish_source file = {fd, path, 0, (uint64_t)info.st_size};
  errno = 0;
  if (!S_ISREG(info.st_mode)) {
    status = planish_say(message, PLANISH_INVALID_ARGUMENT, "%s: expected a regular file", planish_quote(&shown, path));
  } else {
    status = find_directory(&file, &found, message);
    if (!status) status = read_members(&file, &found, arrays, message);
  }
  close(fd);
  return status;
}
