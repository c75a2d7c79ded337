/* SPDX-License-Identifier: BSD-2-Clause */
/* One line of the control protocol to one answer.
 *
 * Called by control-client.c, in the control thread; calls the store.
 *
 *   line → [depth] → jansson → [cmd] → [arguments: names, types, ranges]
 *        → run function → answer object → text
 *
 * I1. Nothing deeper than REQUEST_DEPTH_MAX reaches the parser, which
 *     recurses.
 * I2. A run function sees only arguments that its command's table names, of
 *     the type the table says, sizes within 1 … OBJECT_BYTES_MAX.
 * I3. There is an answer to every line, with the request's id if it could be
 *     read; its text is at most REQUEST_ANSWER_MAX bytes.
 *
 * No state between calls, no lock.  It knows nothing of sockets.
 */

#include <config.h>

#include "request.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

#define SHOWN_MAX 64 /* bytes of a client's text in a message */
#define TEXT_MAX  512
#define ARGS_MAX  4
#define NO_MEMORY                                                    \
  "{\"ok\": false, \"error\": \"out of memory (ask again later)\", " \
  "\"errno\": \"ENOMEM\"}\n"

enum arg_type {
  ARG_STRING,
  ARG_SIZE,
  ARG_BOOL
};

struct arg {
  const char *name; /* NULL ends the table */
  enum arg_type type;
  bool required;
};

struct call {
  const struct request_env *env;
  struct request_answer *answer;
  json_t *request;
  json_t *result;      /* members of the answer */
  char text[TEXT_MAX]; /* what is wrong */
};

struct command {
  const char *name;
  int (*run) (struct call *call);
  bool changes; /* the log tells who did it */
  struct arg args[ARGS_MAX + 1];
};

/* ---- messages ---- */

static int __attribute__ ((format (printf, 3, 4)))
fail (struct call *call, int err, const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  vsnprintf (call->text, sizeof call->text, fmt, args);
  va_end (args);
  return err;
}

/* As much of text as a message shows, not cut inside a character. */
static int
shown (const char *text)
{
  size_t n = strnlen (text, SHOWN_MAX + 1);

  if (n <= SHOWN_MAX)
    return n;
  n = SHOWN_MAX;
  while (n > 0 && ((unsigned char) text[n] & 0xc0) == 0x80)
    n--;
  return n;
}

/* ---- the commands ---- */

static const char *
get_name (const struct call *call)
{
  return json_string_value (json_object_get (call->request, "name"));
}

static bool
get_bool (const struct call *call, const char *key)
{
  return json_is_true (json_object_get (call->request, key));
}

static int
set (struct call *call, const char *key, json_t *value)
{
  if (json_object_set_new (call->result, key, value) == 0)
    return 0;
  return fail (call, ENOMEM, "out of memory (ask again later)");
}

#define READONLY \
  "%.*s: the store is open read-only (start the server without readonly=yes)"

#define BEING_RESIZED "%.*s: it is being made or resized (try again later)"

static int
run_create (struct call *call)
{
  struct store_create create = {
    .name = get_name (call),
    .size_bytes = json_integer_value (json_object_get (call->request, "size")),
    .reserve = get_bool (call, "reserve"),
    .shared = get_bool (call, "shared"),
  };
  char instance[INSTANCE_HEX + 1];
  const char *wrong = store_name_error (create.name);
  int n = shown (create.name);
  int err;

  if (wrong != NULL)
    return fail (call, EINVAL, "%.*s: %s (choose another name)", n, create.name,
                 wrong);
  err = store_create (call->env->store, &create, instance);
  switch (err) {
  case 0:
    return set (call, "instance", json_string (instance));
  case EEXIST:
    return fail (call, err,
                 "%.*s: is there already (choose another name, or remove it "
                 "first)",
                 n, create.name);
  case EROFS:
    return fail (call, err, READONLY, n, create.name);
  case ENOSPC:
    return fail (call, err,
                 "%.*s: not enough free space to reserve %" PRIu64
                 " bytes (make it smaller, or do not reserve)",
                 n, create.name, create.size_bytes);
  default:
    return fail (call, err, "%.*s: %s (the server's log says more)", n,
                 create.name, strerror (err));
  }
}

static int
run_rm (struct call *call)
{
  const char *name = get_name (call);
  int err = store_remove (call->env->store, name, get_bool (call, "force"));

  switch (err) {
  case 0:
    return 0;
  case ENOENT:
    return fail (call, err, "%.*s: no such disk ('ls' lists them)",
                 shown (name), name);
  case EROFS:
    return fail (call, err, READONLY, shown (name), name);
  case EBUSY:
    return fail (call, err,
                 "%.*s: a client has it open (disconnect it, or use force)",
                 shown (name), name);
  case EALREADY:
    return fail (call, EBUSY, BEING_RESIZED, shown (name), name);
  default:
    return fail (call, err, "%.*s: %s (the server's log says more)",
                 shown (name), name, strerror (err));
  }
}

static int
run_resize (struct call *call)
{
  const char *name = get_name (call);
  uint64_t bytes = json_integer_value (json_object_get (call->request, "size"));
  int err = store_resize (call->env->store, name, bytes);
  int n = shown (name);

  switch (err) {
  case 0:
    return 0;
  case ENOENT:
    return fail (call, err, "%.*s: no such disk ('ls' lists them)", n, name);
  case EROFS:
    return fail (call, err, READONLY, n, name);
  case ENOTSUP:
    return fail (call, EINVAL,
                 "%.*s: swap keeps the size it was made with (open another "
                 "swap/ID)",
                 n, name);
  case EBUSY:
    return fail (call, err,
                 "%.*s: a client has it open, and it would be smaller "
                 "(disconnect it)",
                 n, name);
  case EALREADY:
    return fail (call, EBUSY, BEING_RESIZED, n, name);
  case ETIMEDOUT:
    return fail (call, EBUSY,
                 "%.*s: its requests under way do not end (try again, or look "
                 "for a hanging volume)",
                 n, name);
  case ENOSPC:
    return fail (call, err,
                 "%.*s: not enough free space for %" PRIu64
                 " bytes (make it smaller, or add space to the pool)",
                 n, name, bytes);
  default:
    return fail (call, err, "%.*s: %s (the server's log says more)", n, name,
                 strerror (err));
  }
}

static int
run_ls (struct call *call)
{
  json_t *objects;
  int err = stat_json_objects (call->env->store, NULL, &objects);

  if (err != 0)
    return fail (call, err, "%s (ask again later)", strerror (err));
  return set (call, "objects", objects);
}

static int
run_stat (struct call *call)
{
  const char *name = get_name (call);
  json_t *stat;
  int err;

  err = stat_json (call->env->store, name, call->env->armour,
                   &call->env->clients, &stat);
  if (err == ENOENT && name != NULL)
    return fail (call, err, "%.*s: no such disk ('ls' lists them)",
                 shown (name), name);
  if (err != 0)
    return fail (call, err, "%s (ask again later)", strerror (err));
  err = json_object_update (call->result, stat) == 0 ? 0 : ENOMEM;
  json_decref (stat);
  return err == 0 ? 0 : fail (call, err, "out of memory (ask again later)");
}

static int
run_stop (struct call *call)
{
  call->answer->stop = true;
  return 0;
}

static int
run_events (struct call *call)
{
  enum space_state space = call->env->space;

  call->answer->subscribe = true;
  return set (call, "space", json_string (stat_json_space (space)));
}

static const struct command commands[] = {
  { "create",
    run_create,
    true,
    { { "name", ARG_STRING, true },
      { "size", ARG_SIZE, true },
      { "reserve", ARG_BOOL, false },
      { "shared", ARG_BOOL, false } } },
  { "rm",
    run_rm,
    true,
    { { "name", ARG_STRING, true }, { "force", ARG_BOOL, false } } },
  { "resize",
    run_resize,
    true,
    { { "name", ARG_STRING, true }, { "size", ARG_SIZE, true } } },
  { "ls", run_ls, false, { { NULL, ARG_STRING, false } } },
  { "stat", run_stat, false, { { "name", ARG_STRING, false } } },
  { "stop", run_stop, true, { { NULL, ARG_STRING, false } } },
  { "events", run_events, false, { { NULL, ARG_STRING, false } } },
};

#define NR_COMMANDS (sizeof commands / sizeof commands[0])

/* ---- arguments ---- */

/* Are the command's arguments known and of the right kind? */
static int
check_value (struct call *call, const struct command *cmd,
             const struct arg *arg, const json_t *value)
{
  json_int_t n;

  switch (arg->type) {
  case ARG_STRING:
    if (json_is_string (value) && json_string_length (value) <= EXPORT_NAME_MAX)
      return 0;
    return fail (call, EINVAL, "%s: %s must be a string of at most %d bytes",
                 cmd->name, arg->name, EXPORT_NAME_MAX);
  case ARG_BOOL:
    if (json_is_boolean (value))
      return 0;
    return fail (call, EINVAL, "%s: %s must be true or false", cmd->name,
                 arg->name);
  case ARG_SIZE:
    n = json_integer_value (value);
    if (json_is_integer (value) && n > 0 && (uint64_t) n <= OBJECT_BYTES_MAX)
      return 0;
    return fail (call, EINVAL,
                 "%s: %s must be a whole number of bytes from 1 to %" PRIu64,
                 cmd->name, arg->name, OBJECT_BYTES_MAX);
  }
  return EINVAL;
}

static int
fail_unknown_arg (struct call *call, const struct command *cmd, const char *key)
{
  char known[128] = "no argument";
  size_t len = 0;

  for (const struct arg *arg = cmd->args; arg->name != NULL; arg++)
    len += snprintf (known + len, sizeof known - len, "%s%s",
                     len > 0 ? ", " : "", arg->name);
  return fail (call, EINVAL, "%s: unknown argument '%.*s' (it takes %s)",
               cmd->name, shown (key), key, known);
}

static int
check_args (struct call *call, const struct command *cmd)
{
  const char *key;
  json_t *value;

  json_object_foreach (call->request, key, value)
  {
    const struct arg *arg = cmd->args;
    int err;

    if (strcmp (key, "cmd") == 0 || strcmp (key, "id") == 0)
      continue;
    while (arg->name != NULL && strcmp (arg->name, key) != 0)
      arg++;
    if (arg->name == NULL)
      return fail_unknown_arg (call, cmd, key);
    err = check_value (call, cmd, arg, value);
    if (err != 0)
      return err;
  }
  for (const struct arg *arg = cmd->args; arg->name != NULL; arg++)
    if (arg->required && json_object_get (call->request, arg->name) == NULL)
      return fail (call, EINVAL, "%s: argument '%s' is missing", cmd->name,
                   arg->name);
  return 0;
}

static int
run_command (struct call *call, const struct command *cmd)
{
  const struct ucred *peer = &call->env->peer;
  int err = check_args (call, cmd);

  if (err == 0)
    err = cmd->run (call);
  if (err == 0 && cmd->changes) /* so a name in it is a good one */
    log_write (LOG_INFO, "control: %s%s%s (by pid %d, uid %u)", cmd->name,
               get_name (call) != NULL ? " " : "",
               get_name (call) != NULL ? get_name (call) : "", (int) peer->pid,
               (unsigned) peer->uid);
  return err;
}

static int
run (struct call *call)
{
  const char *name = json_string_value (json_object_get (call->request, "cmd"));
  char known[128];
  size_t len = 0;

  for (size_t i = 0; i < NR_COMMANDS; i++) {
    if (name != NULL && strcmp (commands[i].name, name) == 0)
      return run_command (call, &commands[i]);
    len += snprintf (known + len, sizeof known - len, "%s%s",
                     len > 0 ? ", " : "", commands[i].name);
  }
  if (name == NULL)
    return fail (call, EINVAL, "cmd is missing or no string (known: %s)",
                 known);
  return fail (call, EINVAL, "unknown cmd '%.*s' (known: %s)", shown (name),
               name, known);
}

/* ---- lines and answers ---- */

/* How deep arrays and objects go, by their brackets outside strings. */
static bool
too_deep (const char *line, size_t bytes)
{
  bool in_string = false;
  unsigned depth = 0;

  for (size_t i = 0; i < bytes; i++) {
    char ch = line[i];

    if (in_string) {
      if (ch == '\\')
        i++;
      else if (ch == '"')
        in_string = false;
    } else if (ch == '"')
      in_string = true;
    else if (ch == '[' || ch == '{') {
      if (++depth > REQUEST_DEPTH_MAX)
        return true;
    } else if ((ch == ']' || ch == '}') && depth > 0)
      depth--;
  }
  return false;
}

static json_t *
parse (struct call *call, const char *line, size_t bytes, int *err)
{
  json_error_t error;
  json_t *json;

  if (too_deep (line, bytes)) {
    *err = fail (call, EINVAL, "more than %u levels of nesting",
                 REQUEST_DEPTH_MAX);
    return NULL;
  }
  json = json_loadb (line, bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY,
                     &error);
  if (json == NULL && (json_error_code (&error) == json_error_out_of_memory ||
                       error.text[0] == '\0')) { /* it lacked even that */
    *err = fail (call, ENOMEM, "out of memory (ask again later)");
    return NULL;
  }
  if (json == NULL) {
    *err = fail (call, EINVAL, "not JSON: %.*s, at byte %d", shown (error.text),
                 error.text, error.position);
    return NULL;
  }
  if (!json_is_object (json)) {
    json_decref (json);
    *err = fail (call, EINVAL, "not a JSON object (send {\"cmd\": …})");
    return NULL;
  }
  return json;
}

/* The text of an answer; takes json, which may be NULL. */
static void
print (json_t *json, struct request_answer *answer)
{
  size_t flags = JSON_REAL_PRECISION (15);
  size_t bytes = json == NULL ? 0 : json_dumpb (json, NULL, 0, flags);
  char *text = NULL;

  if (bytes >= REQUEST_ANSWER_MAX) {
    json_decref (json);
    request_refuse (E2BIG,
                    "the answer is longer than 16 MiB (stat one disk by name)",
                    answer);
    return;
  }
  if (bytes > 0)
    text = malloc (bytes + 1);
  /* a dump needs memory, too: the second may fail where the first did not */
  if (text != NULL && json_dumpb (json, text, bytes, flags) == bytes) {
    text[bytes] = '\n';
    answer->bytes = bytes + 1;
  } else {
    free (text);
    text = strdup (NO_MEMORY);
    answer->bytes = strlen (NO_MEMORY);
  }
  answer->text = text;
  json_decref (json);
}

static json_t *
refusal (int err, const char *text)
{
  const char *name = strerrorname_np (err);

  return json_pack ("{s:b, s:o, s:s}", "ok", 0, "error",
                    stat_json_string (text), "errno",
                    name != NULL ? name : "EIO");
}

void
request_refuse (int err, const char *text, struct request_answer *answer)
{
  *answer = (struct request_answer){ .text = NULL };
  print (refusal (err, text), answer);
}

void
request_run (const struct request_env *env, const char *line, size_t bytes,
             struct request_answer *answer)
{
  struct call call = { .env = env, .answer = answer };
  json_t *id, *json;
  int err = 0;

  *answer = (struct request_answer){ .text = NULL };
  call.request = parse (&call, line, bytes, &err);
  call.result = json_pack ("{s:b}", "ok", 1);
  if (call.request != NULL && call.result != NULL)
    err = run (&call);
  json = err == 0 ? json_incref (call.result) : refusal (err, call.text);
  id = json_object_get (call.request, "id");
  if (id != NULL && json != NULL && json_object_set (json, "id", id) != 0) {
    json_decref (json);
    json = NULL; /* without its id it might be taken for another's */
  }
  print (json, answer);
  json_decref (call.result);
  json_decref (call.request);
}
