/* SPDX-License-Identifier: BSD-2-Clause */
/* Options of the program, and complaints about them; called by main.c.
 *
 * Not getopt_long: that one takes abbreviations, which would make each new
 * option a change to what scripts mean, and prints its own messages.  Here:
 *
 *   --name, --name VALUE, --name=VALUE   anywhere after the command
 *   --                                   ends options
 *   anything else with a dash first      is refused; a lone "-" is an argument
 */

#include <config.h>

#include "tool.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "progress.h"

#define TEXT_MAX 2048

const struct option options[NR_OPTIONS] = {
  [OPT_RESERVE] = { "reserve", NULL, "set space for all of it aside now" },
  [OPT_SHARED] = { "shared", NULL, "several clients may write at a time" },
  [OPT_FORCE] = { "force", NULL,
                  "even if open (rm), with data (format, attach), not written (detach)" },
  [OPT_FOLLOW] = { "follow", NULL, "then print events as they come" },
  [OPT_SIZE] = { "size", "SIZE",
                 "make files of this size where there are none" },
  [OPT_RING] = { "ring", "SIZE", "of the log (1/256 of the first volume)" },
  [OPT_SPARSE] = { "sparse", NULL, "do not set a file's space aside" },
  [OPT_SLOT] = { "slot", NULL, "superblocks, whole or not" },
  [OPT_LOG] = { "log", NULL, "the log's blocks and their records" },
  [OPT_TABLE] = { "table", NULL, "the table of disks" },
  [OPT_FREEMAP] = { "freemap", NULL, "which blocks are in use" },
  [OPT_OBJECT] = { "object", "ID", "a disk's entry and page map" },
  [OPT_NODE] = { "node", "BLOCK", "a block, as a node: VOLUME:PLACE" },
  [OPT_DATA] = { "data", NULL, "read all data, too, and look at it" },
  [OPT_ALL] = { "all", NULL, "tell every finding, not 20 of a kind" },
  [OPT_REPAIR] = { "repair", NULL, "put right what can be put right" },
  [OPT_UNDO_FILE] = { "undo-file", "FILE", "keep what --repair overwrites" },
  [OPT_LOSE_PAGES] = { "lose-pages", NULL, "pages that are lost become holes" },
  [OPT_RESTORE] = { "restore", "FILE", "put back what an undo file has" },
  [OPT_STAGING] = { "staging", "DIR", "where servers keep staging files" },
  [OPT_SPAN] = { "span", "SIZE", "of what is put and got (256M)" },
  [OPT_CLUSTER] = { "cluster", "LIST", "pages of a cluster (4,16,64)" },
  [OPT_ASYNC] = { "async", "LIST", "clusters under way (1,2,4,..,64,follow)" },
  [OPT_CONNECTIONS] = { "connections", "N", "how many (bench 4, attach 1)" },
  [OPT_SECONDS] = { "seconds", "N", "of each figure (0.5)" },
  [OPT_TAKEOVER] = { "takeover", NULL, "even if it is used or holds data" },
  [OPT_PLOT] = { "plot", "FILE", "draw puts by limit: an SVG file" },
  [OPT_SWAP] = { "swap", NULL, "make a swap area on it, and use it" },
  [OPT_LABEL] = { "label", "TEXT", "name of the swap area (farpage)" },
  [OPT_PRIORITY] = { "priority", "N",
                     "0 to 32767: swap with more is used first" },
  [OPT_DISCARD] = { "discard", "WHAT",
                    "goes back of a swap area: no, once, pages, both (both)" },
  [OPT_PERSIST] = { "persist", NULL,
                    "stay, and connect again when that is lost" },
  [OPT_UNVERIFIED] = { "unverified", NULL,
                       "with --persist: to what has the name and the size" },
  [OPT_BACKGROUND] = { "background", NULL,
                       "with --persist: once it is attached" },
  [OPT_JSON] = { "json", NULL, "print JSON" },
  [OPT_SOCKET] = { "socket", "PATH", "the server's control socket" },
  [OPT_HELP] = { "help", NULL, "print this" },
  [OPT_VERSION] = { "version", NULL, "print the version" },
};

void
make_printable (char *text)
{
  for (unsigned char *p = (unsigned char *) text; *p != '\0'; p++) {
    if (*p < ' ' || *p == 0x7f)
      *p = '?';
    else if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
      p[0] = p[1] = '?'; /* C1 controls in UTF-8 */
  }
}

void
complain (const char *thing, const char *fmt, ...)
{
  char text[TEXT_MAX];
  va_list args;
  int n = 0;

  if (thing != NULL)
    n = snprintf (text, sizeof text, "%s: ", thing);
  if (n < 0 || (size_t) n >= sizeof text)
    n = 0;
  va_start (args, fmt);
  vsnprintf (text + n, sizeof text - n, fmt, args);
  va_end (args);
  make_printable (text);
  flockfile (stderr);
  progress_wipe ();
  fprintf (stderr, "farpage: %s\n", text);
  funlockfile (stderr);
}

int
complain_usage (const struct command *command, const char *fmt, ...)
{
  char text[TEXT_MAX];
  va_list args;

  va_start (args, fmt);
  vsnprintf (text, sizeof text, fmt, args);
  va_end (args);
  if (command != NULL)
    complain (command->name, "%s (see 'farpage %s --help')", text,
              command->name);
  else
    complain (NULL, "%s (see 'farpage --help')", text);
  return command != NULL && command->usage_status != 0 ? command->usage_status
                                                       : STATUS_USAGE;
}

/* The option that text (without the dashes) names, or NR_OPTIONS. */
static enum option_id
find_option (const char *text, size_t len, uint64_t allowed)
{
  unsigned id = 0;

  while (id < NR_OPTIONS &&
         ((allowed & OPT_BIT (id)) == 0 || strlen (options[id].name) != len ||
          memcmp (options[id].name, text, len) != 0))
    id++;
  return id;
}

/* Take one option; returns how many of argv it is, or -1. */
static int
take_option (struct invocation *inv, int argc, char **argv, uint64_t allowed)
{
  size_t len = strcspn (argv[0], "=");
  bool has_value = argv[0][len] == '=';
  enum option_id id = NR_OPTIONS;

  if (strncmp (argv[0], "--", 2) == 0)
    id = find_option (argv[0] + 2, len - 2, allowed);
  if (id == NR_OPTIONS) {
    complain_usage (inv->command, "unknown option '%.*s'", (int) len, argv[0]);
    return -1;
  }
  if (options[id].value == NULL) {
    inv->value[id] = "";
    if (!has_value)
      return 1;
    complain_usage (inv->command, "--%s takes no value", options[id].name);
    return -1;
  }
  inv->value[id] = has_value ? argv[0] + len + 1 : argc > 1 ? argv[1] : "";
  if (inv->value[id][0] == '\0') {
    complain_usage (inv->command, "--%s needs a %s", options[id].name,
                    options[id].value);
    return -1;
  }
  return has_value ? 1 : 2;
}

int
options_parse (struct invocation *inv, int argc, char **argv, uint64_t allowed)
{
  bool ended = false;
  int i = 0;

  while (i < argc) {
    if (!ended && strcmp (argv[i], "--") == 0) {
      ended = true;
      i++;
    } else if (!ended && argv[i][0] == '-' && argv[i][1] != '\0') {
      int n = take_option (inv, argc - i, argv + i, allowed);

      if (n < 0)
        return -1;
      i += n;
    } else if (inv->command == NULL)
      return i;
    else if (inv->nr_args == inv->command->max_args) {
      complain_usage (inv->command, "one argument too many: '%s'", argv[i]);
      return -1;
    } else
      inv->args[inv->nr_args++] = argv[i++];
  }
  return i;
}
