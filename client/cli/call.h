/*
 * What most verbs are: one unary call and its response, printed. Such a verb fills in its request
 * and says how the response looks as text; the rest, JSON and failures included, is here.
 */
#pragma once

#include "client/cli/cli.h"

/* Any unary function of sandbox.h; CLI_METHOD() makes it of one. */
typedef bool cli_method(struct sandbox_client *client, const ProtobufCMessage *request,
                        ProtobufCMessage **ret, struct sandbox_error *err);

/* Defines the cli_method call_NAME() of sandbox_NAME(), whose messages are named after Method. */
#define CLI_METHOD(name, Method)                                                                   \
    static bool call_##name(struct sandbox_client *client, const ProtobufCMessage *request,        \
                            ProtobufCMessage **ret, struct sandbox_error *err)                     \
    {                                                                                              \
        Sandbox__V1__##Method##Response *response;                                                 \
        bool ok = sandbox_##name(client, (const Sandbox__V1__##Method##Request *)request,          \
                                 &response, err);                                                  \
                                                                                                   \
        *ret = (ProtobufCMessage *)response;                                                       \
        return ok;                                                                                 \
    }

/* Prints a message as text. False: our own output is gone; errno says why. */
typedef bool cli_printer(const ProtobufCMessage *message);

/* Makes the call and prints its response: as JSON, or as `print` does; NULL: nothing as text.
 * Returns the exit code. */
int cli_call(const struct cli *cli, cli_method *method, const ProtobufCMessage *request,
             cli_printer *print);

/* Makes a call whose response says nothing. */
int cli_call_quietly(const struct cli *cli, cli_method *method, const ProtobufCMessage *request);

/* The same for each of the operands, as *field of the request, whatever becomes of the others. */
int cli_call_each(const struct cli *cli, cli_method *method, const ProtobufCMessage *request,
                  char **field, int n, char **operands);

/* A method that answers in pages. */
struct cli_list {
    cli_method *method;
    const char *items;     /* the response's field */
    void (*heading)(void); /* of the table; NULL: it has none */
    cli_printer *print;    /* one item */
};

/* Prints all pages, item by item. The request's page_token is set on the way. */
int cli_call_list(const struct cli *cli, const struct cli_list *list, ProtobufCMessage *request);
