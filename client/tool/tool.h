/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the program `farpage` share: commands and their options.
 *
 * A command is one file with one struct command; main.c lists them.  Exit
 * status: 0 it worked, 1 the server said no or is not there, or a volume is not
 * as it should be, 2 usage.
 */

#ifndef FARPAGE_TOOL_H
#define FARPAGE_TOOL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define STATUS_NO    1
#define STATUS_USAGE 2

/* Of check, as e2fsck has them. */
#define STATUS_CHECK_REPAIRED  1
#define STATUS_CHECK_ERRORS    4 /* and they are still there */
#define STATUS_CHECK_FAILED    8 /* it could not be done */
#define STATUS_CHECK_USAGE     16
#define STATUS_CHECK_CANCELLED 32

enum option_id {
  OPT_RESERVE,
  OPT_SHARED,
  OPT_FORCE,
  OPT_FOLLOW,
  OPT_SIZE,
  OPT_RING,
  OPT_SPARSE,
  OPT_SLOT,
  OPT_LOG,
  OPT_TABLE,
  OPT_FREEMAP,
  OPT_OBJECT,
  OPT_NODE,
  OPT_DATA,
  OPT_ALL,
  OPT_REPAIR,
  OPT_UNDO_FILE,
  OPT_LOSE_PAGES,
  OPT_RESTORE,
  OPT_STAGING,
  OPT_SPAN,
  OPT_CLUSTER,
  OPT_ASYNC,
  OPT_CONNECTIONS,
  OPT_SECONDS,
  OPT_TAKEOVER,
  OPT_PLOT,
  OPT_SWAP,
  OPT_LABEL,
  OPT_PRIORITY,
  OPT_DISCARD,
  OPT_PERSIST,
  OPT_UNVERIFIED,
  OPT_BACKGROUND,
  OPT_JSON,
  OPT_SOCKET,
  OPT_HELP,
  OPT_VERSION,
  NR_OPTIONS
};

#define OPT_BIT(id) (UINT64_C (1) << (id))

struct option {
  const char *name;  /* without -- */
  const char *value; /* what it takes, NULL: it is a switch */
  const char *help;
};

extern const struct option options[NR_OPTIONS];

#define ARGS_MAX 64 /* volumes of a store */

struct invocation;

struct command {
  const char *name, *args, *summary;
  uint64_t options;                          /* OPT_BIT of those it takes */
  unsigned min_args, max_args;               /* at most ARGS_MAX */
  bool offline;                              /* asks no server: no --socket */
  int usage_status;                          /* 0: STATUS_USAGE */
  int (*run) (const struct invocation *inv); /* the exit status */
};

struct invocation {
  const struct command *command; /* NULL before it is known */
  const char *value[NR_OPTIONS]; /* not NULL: given */
  const char *args[ARGS_MAX];
  unsigned nr_args;
};

extern const struct command command_create, command_rm, command_resize,
    command_ls, command_stat, command_stop, command_format, command_info,
    command_dump, command_check, command_bench, command_bench_file,
    command_attach, command_grow, command_detach;

/* Take options, and arguments among them, from argv; "--" ends options.  With
 * inv->command NULL it ends before the first argument.  Returns how many of
 * argv were taken, or -1 when it has complained.
 */
extern int options_parse (struct invocation *inv, int argc, char **argv,
                          uint64_t allowed);

static inline bool
given (const struct invocation *inv, enum option_id id)
{
  return inv->value[id] != NULL;
}

/* One line on stderr: "farpage: THING: what (remedy)".  thing NULL: none. */
extern void complain (const char *thing, const char *fmt, ...)
    __attribute__ ((format (printf, 2, 3)));

/* As complain, with a pointer to --help.  Returns its status for that. */
extern int complain_usage (const struct command *command, const char *fmt, ...)
    __attribute__ ((format (printf, 2, 3)));

/* Make text harmless for a terminal, in its place. */
extern void make_printable (char *text);

#endif /* FARPAGE_TOOL_H */
