/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of `farpage dump` share. */

#ifndef FARPAGE_TOOL_DUMP_H
#define FARPAGE_TOOL_DUMP_H

#include "item.h"
#include "volumes.h"

/* Nodes that are followed, at most: more than any volumes have room for in a
 * life's time of printing.
 */
#define DUMP_LINKS_MAX (1u << 26)

struct dump {
  struct volumes vs;
  bool as_json;
  bool root_known;
  struct disk_super root;          /* the best slot of volume 0, if known */
  struct volume *by[DISK_VOLUMES]; /* by their number; NULL: not named */
  unsigned nr_links;               /* followed so far */
  bool bad;                        /* something was not as it should be */
  struct disk_node *node[8];       /* a block for each level, and one more */
};

/* Judge and print; what is bad is remembered for the exit status. */
extern void dump_item (struct dump *d, json_t *item, const char *error);

/* One block into page (page-aligned).  NULL, or what is wrong. */
extern const char *dump_read (struct dump *d, uint64_t blk, void *page);

extern void dump_log (struct dump *d);
extern void dump_node (struct dump *d, uint64_t blk);
extern void dump_table (struct dump *d);
extern void dump_freemap (struct dump *d);
extern void dump_object (struct dump *d, uint64_t id);

#endif /* FARPAGE_TOOL_DUMP_H */
