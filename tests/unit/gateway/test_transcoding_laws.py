"""Laws of transcoding, over random messages of every annotated method of the contracts."""

from typing import Any
from urllib.parse import quote, urlencode

import orjson
from google.protobuf import json_format
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from gateway.transcode.bindings import WHOLE, Binding, all_bindings, router
from gateway.transcode.contracts import load_contracts
from gateway.transcode.reading import Faults, is_special, message_reader
from gateway.transcode.requests import Parts, read_request
from gateway.transcode.writing import message_writer
from tests.unit.gateway.messages import messages

BINDINGS = all_bindings(load_contracts())
ROUTER = router(BINDINGS)
any_binding = st.sampled_from(BINDINGS)


def as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def to_http(binding: Binding, message: Message) -> tuple[str, str, bytes]:
    """Write a request as google.api.http says it is: path, query, body."""
    rest = type(message)()
    rest.CopyFrom(message)
    path = "/" + "/".join(binding.template.segments) + (f":{binding.template.verb}" if binding.template.verb else "")
    for parameter in binding.path_parameters:
        path = path.replace("*", quote(str(parameter.get(message)), safe=""), 1)
        parameter._parent(rest).ClearField(parameter.field.name)
    if binding.body == WHOLE:
        return path, "", orjson.dumps(json_format.MessageToDict(rest))
    body = b""
    if binding.body and rest.HasField(binding.body):
        body = orjson.dumps(json_format.MessageToDict(getattr(rest, binding.body), preserving_proto_field_name=True))
    query = []
    for name, parameter in binding.query_parameters.items():
        if parameter.is_set(rest):
            within: Any = json_format.MessageToDict(rest, preserving_proto_field_name=True)
            for step in parameter.path:
                within = within[step]
            query += [(name, as_text(text)) for text in (within if isinstance(within, list) else [within])]
    return path, urlencode(query), body


def without_hollow(message: Message) -> None:
    """Clear the messages in it that are there but empty: no query can say that."""
    for field, value in message.ListFields():
        if isinstance(value, Message) and field.message_type and not is_special(field.message_type):
            without_hollow(value)
            if not value.ByteSize():
                message.ClearField(field.name)


@given(st.data())
def test_a_request_written_by_the_rules_is_read_as_the_same_message(data: st.DataObject):
    binding = data.draw(any_binding)
    message = data.draw(messages(binding.method.input_type))
    for parameter in binding.path_parameters:
        parameter.set(message, [data.draw(st.text(st.characters(codec="utf-8"), min_size=1, max_size=9))])
    for name in {parameter.path[0] for parameter in binding.query_parameters.values() if len(parameter.path) > 1}:
        without_hollow(getattr(message, name))
        if not getattr(message, name).ByteSize():
            message.ClearField(name)
    path, query, body = to_http(binding, message)
    found = ROUTER.find(path)
    assert found is not None
    targets, segments = found
    assert targets[binding.verb] is binding
    read = read_request(binding, Parts(segments, query, body)).message
    if binding.masks_itself and not message.update_mask.paths:
        read.ClearField("update_mask")
        message.ClearField("update_mask")
    if binding.body_field is not None and not body and message.HasField(binding.body):
        getattr(read, binding.body).SetInParent()
    assert read == message


@given(data=st.data(), snake=st.booleans())
def test_json_that_protobuf_writes_is_read_as_the_same_message(data: st.DataObject, *, snake: bool):
    descriptor = data.draw(any_binding).method.input_type
    message = data.draw(messages(descriptor))
    faults = Faults()
    written = json_format.MessageToDict(message, preserving_proto_field_name=snake)
    assert message_reader(descriptor)(written, (), faults) == message
    assert not faults


@given(st.data())
def test_an_answer_is_written_as_protobuf_writes_it(data: st.DataObject):
    descriptor = data.draw(any_binding).method.output_type
    message = data.draw(messages(descriptor))
    expected = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    assert message_writer(descriptor)(message) == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_what_protobuf_does_not_read_is_not_read(data: st.DataObject):
    """Members of the right names with any values: where protobuf's own reader refuses, so does ours."""
    binding = data.draw(any_binding)
    descriptor = binding.method.input_type
    members = st.sampled_from([field.name for field in descriptor.fields] or ["none"])
    value = data.draw(st.dictionaries(members, json_values, max_size=4))
    faults, read, wrong = Faults(), None, False
    try:
        read = message_reader(descriptor)(value, (), faults)
    except ValueError:
        wrong = True
    try:
        expected = json_format.ParseDict(value, binding.request_class())
    except (json_format.ParseError, AttributeError, TypeError, ValueError):
        assert wrong or faults
    else:
        assert wrong or faults or read == expected
