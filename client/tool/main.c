/* SPDX-License-Identifier: BSD-2-Clause */
/* farpage: steers a running server through its control socket, makes and shows
 * stores on volumes, and joins exports to this machine's kernel.
 *
 *   main → options_parse → a command's run → client.c → the server
 *                                          → volumes.c → the volumes
 *                                          → export.c, kernel.c → /dev/nbdN
 *
 * Help is made from the tables of commands and options, so that it lists what
 * is taken; test-tool.sh compares it with farpage.1 both ways.
 */

#include <config.h>

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

static const struct command *const commands[] = {
  &command_create, &command_rm,    &command_resize, &command_ls,
  &command_stat,   &command_stop,  &command_format, &command_info,
  &command_dump,   &command_check, &command_bench,  &command_bench_file,
  &command_attach, &command_grow,  &command_detach,
};

#define NR_COMMANDS (sizeof commands / sizeof commands[0])
#define GLOBAL \
  (OPT_BIT (OPT_SOCKET) | OPT_BIT (OPT_HELP) | OPT_BIT (OPT_VERSION))

/* All options of a command. */
static uint64_t
options_of (const struct command *c)
{
  return c->options | OPT_BIT (OPT_HELP) |
         (c->offline ? 0 : OPT_BIT (OPT_SOCKET));
}

static void
print_options (uint64_t allowed)
{
  printf ("\nOptions:\n");
  for (unsigned id = 0; id < NR_OPTIONS; id++) {
    char text[32];

    if ((allowed & OPT_BIT (id)) == 0)
      continue;
    snprintf (text, sizeof text, "--%s %s", options[id].name,
              options[id].value != NULL ? options[id].value : "");
    printf ("  %-15s %s\n", text, options[id].help);
  }
}

static void
print_help (void)
{
  printf ("Usage: farpage COMMAND [ARGUMENT | OPTION]...\n"
          "Steer a running farpage server; make and show stores; attach "
          "exports.\n\n"
          "Commands:\n");
  for (size_t i = 0; i < NR_COMMANDS; i++) {
    char text[32];

    snprintf (text, sizeof text, "%s %s", commands[i]->name, commands[i]->args);
    printf ("  %-18s %s\n", text, commands[i]->summary);
  }
  print_options (GLOBAL);
  printf ("\nThe server is the one at --socket, else at $FARPAGE_SOCKET, else "
          "the only one\nfound in $XDG_RUNTIME_DIR/farpage and /run/farpage.\n"
          "'farpage COMMAND --help' tells more, so does 'man farpage'.\n");
}

static void
print_command_help (const struct command *c)
{
  uint64_t allowed = options_of (c);

  printf ("Usage: farpage %s%s%s", c->name, c->args[0] != '\0' ? " " : "",
          c->args);
  for (unsigned id = 0; id < NR_OPTIONS; id++)
    if ((allowed & OPT_BIT (id)) != 0)
      printf (" [--%s%s%s]", options[id].name,
              options[id].value != NULL ? " " : "",
              options[id].value != NULL ? options[id].value : "");
  printf ("\n%c%s.\n", c->summary[0] - 'a' + 'A', c->summary + 1);
  print_options (allowed);
}

static const struct command *
find_command (const char *name)
{
  for (size_t i = 0; i < NR_COMMANDS; i++)
    if (strcmp (commands[i]->name, name) == 0)
      return commands[i];
  return NULL;
}

static int
run_command (struct invocation *inv, int argc, char **argv)
{
  const struct command *c = inv->command;

  if (options_parse (inv, argc, argv, options_of (c)) < 0)
    return c->usage_status != 0 ? c->usage_status : STATUS_USAGE;
  if (given (inv, OPT_HELP)) {
    print_command_help (c);
    return 0;
  }
  if (inv->nr_args < c->min_args)
    return complain_usage (c, "it takes %s", c->args);
  return c->run (inv);
}

static int
run (int argc, char **argv)
{
  struct invocation inv = { .command = NULL };
  int n = options_parse (&inv, argc, argv, GLOBAL);

  if (n < 0)
    return STATUS_USAGE;
  if (given (&inv, OPT_HELP))
    print_help ();
  else if (given (&inv, OPT_VERSION))
    printf ("farpage %s\n", PACKAGE_VERSION);
  else if (n == argc)
    return complain_usage (NULL, "no command");
  else {
    inv.command = find_command (argv[n]);
    if (inv.command == NULL)
      return complain_usage (NULL, "unknown command '%s'", argv[n]);
    return run_command (&inv, argc - n - 1, argv + n + 1);
  }
  return 0;
}

int
main (int argc, char **argv)
{
  int status;

  setlocale (LC_CTYPE, "");
  signal (SIGPIPE, SIG_IGN); /* a write that fails is told below */
  status = run (argc > 0 ? argc - 1 : 0, argv + 1);
  if (fflush (stdout) != 0 || ferror (stdout)) {
    complain ("standard output", "%s", strerror (errno));
    if (status == 0)
      status = STATUS_NO;
  }
  return status;
}
