/* Files of a sandbox: see read_file.c, read_files.c, write_files.c, file_entries.c, file_url.c,
 * upload_file.c, download_file.c, upload_tree.c and download_tree.c. */
#pragma once

#include "service/rpc/call.h"

void write_files_start(struct call *c, const ProtobufCMessage *request);
void read_file_start(struct call *c, const ProtobufCMessage *request);
void read_files_start(struct call *c, const ProtobufCMessage *request);
void stat_file_start(struct call *c, const ProtobufCMessage *request);
void list_directory_start(struct call *c, const ProtobufCMessage *request);
void make_directory_start(struct call *c, const ProtobufCMessage *request);
void move_file_start(struct call *c, const ProtobufCMessage *request);
void remove_file_start(struct call *c, const ProtobufCMessage *request);
void create_file_url_start(struct call *c, const ProtobufCMessage *request);
void upload_file_start(struct call *c, const ProtobufCMessage *none);
void download_file_start(struct call *c, const ProtobufCMessage *request);
void upload_tree_start(struct call *c, const ProtobufCMessage *none);
void download_tree_start(struct call *c, const ProtobufCMessage *request);
