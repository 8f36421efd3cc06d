"""How the pods of fake_sandboxd fail: with all the details that sandboxd gives."""

from harness import api


class Error:
    """A failed call: code, reason of ErrorInfo (None: no details at all), RetryInfo, BadRequest."""

    def __init__(self, code, reason=None, retry=None, field=None, metadata=None,
                 message="it did not work out"):
        self.code, self.reason, self.retry, self.field = code, reason, retry, field
        self.metadata, self.message = metadata or {}, message

    def details(self):
        status = api.message("google.rpc.Status")(code=self.code.value[0], message=self.message)
        found = [("ErrorInfo", {"reason": self.reason, "domain": "sandbox.v1",
                                "metadata": self.metadata})]
        if self.retry is not None:
            found.append(("RetryInfo", {"retry_delay": api.seconds(self.retry)}))
        if self.field is not None:
            found.append(("BadRequest", {"field_violations": [{"field": self.field}]}))
        for name, fields in found:
            packed = status.details.add(type_url="type.googleapis.com/google.rpc." + name)
            packed.value = api.message("google.rpc." + name)(**fields).SerializeToString()
        return status.SerializeToString()

    def abort(self, context):
        if self.reason is not None:
            context.set_trailing_metadata((("grpc-status-details-bin", self.details()),))
        context.abort(self.code, self.message)
