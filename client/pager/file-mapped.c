/* SPDX-License-Identifier: BSD-2-Clause */
/* What of a file is mapped for writing; file-mapped.h has the contract.  Called
 * by file-look.c and file.c with the file's lock held; calls nobody, and needs
 * no memory.
 *
 *   add     |-- a --|         |-- b --|      joins what it touches
 *   remove  |-- a --|    =>   |-|   |-|      cuts, in two if it must
 *
 * After the vnode pager, which counts bytes so that a mapping may go in parts.
 * It knows only how many; here also which, so that a file may be cut behind its
 * mappings, and a second writer of a byte, who would have a copy of his own, is
 * found out.
 */

#include <config.h>

#include "file-mapped.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* The first range that ends behind off. */
static unsigned
find (const struct file_mapped *m, uint64_t off)
{
  unsigned i = 0;

  while (i < m->nr && m->range[i].end <= off)
    i++;
  return i;
}

static void
erase (struct file_mapped *m, unsigned at)
{
  m->nr--;
  memmove (&m->range[at], &m->range[at + 1], (m->nr - at) * sizeof m->range[0]);
}

/* ENOMEM: there is no room. */
static int
insert (struct file_mapped *m, unsigned at, uint64_t off, uint64_t end)
{
  if (m->nr == FILE_MAPPED_MAX)
    return ENOMEM;
  memmove (&m->range[at + 1], &m->range[at], (m->nr - at) * sizeof m->range[0]);
  m->range[at].off = off;
  m->range[at].end = end;
  m->nr++;
  return 0;
}

int
file_mapped_add (struct file_mapped *m, uint64_t off, uint64_t end)
{
  const unsigned i = find (m, off);
  const bool before = i > 0 && m->range[i - 1].end == off;
  const bool after = i < m->nr && m->range[i].off == end;
  int err = 0;

  assert (off < end);
  if (i < m->nr && m->range[i].off < end)
    return EBUSY;
  if (before && after) {
    m->range[i - 1].end = m->range[i].end;
    erase (m, i);
  } else if (before) {
    m->range[i - 1].end = end;
  } else if (after) {
    m->range[i].off = off;
  } else {
    err = insert (m, i, off, end);
  }
  if (err == 0)
    m->bytes += end - off;
  return err;
}

int
file_mapped_remove (struct file_mapped *m, uint64_t off, uint64_t end)
{
  const unsigned i = find (m, off);
  int err = 0;

  assert (off < end);
  if (i == m->nr || off < m->range[i].off || m->range[i].end < end)
    return EINVAL;
  if (m->range[i].off == off && m->range[i].end == end) {
    erase (m, i);
  } else if (m->range[i].off == off) {
    m->range[i].off = end;
  } else if (m->range[i].end == end) {
    m->range[i].end = off;
  } else {
    err = insert (m, i + 1, end, m->range[i].end);
    if (err == 0)
      m->range[i].end = off;
  }
  if (err == 0)
    m->bytes -= end - off;
  return err;
}

uint64_t
file_mapped_end (const struct file_mapped *m)
{
  return m->nr > 0 ? m->range[m->nr - 1].end : 0;
}

const char *
file_mapped_check (const struct file_mapped *m)
{
  uint64_t bytes = 0;

  if (m->nr > FILE_MAPPED_MAX)
    return "more ranges than there is room for";
  for (unsigned i = 0; i < m->nr; i++) {
    if (m->range[i].off >= m->range[i].end)
      return "an empty range";
    if (i > 0 && m->range[i - 1].end >= m->range[i].off)
      return "ranges out of order, or two that are one";
    bytes += m->range[i].end - m->range[i].off;
  }
  return bytes != m->bytes ? "the count of mapped bytes" : NULL;
}
