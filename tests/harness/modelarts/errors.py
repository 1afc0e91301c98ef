# SPDX-License-Identifier: Apache-2.0
"""The errors of the double, with the messages of the API's documents (ModelArts API Reference, Appendix, Error Codes).

Two body shapes exist in the documents and both are used: the training pages of v1 say ``error_message``, the general
page, the gateway and v2 say ``error_msg``.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

V1, V2, GATEWAY = "v1", "v2", "gateway"


@dataclass(frozen=True)
class Kind:
    """A row of the table: the status, the message (``%s`` for each value) and what to do."""

    status: int
    message: str
    solution: str = "Check whether the training job information in the request is valid."


CODES = {
    "0101": Kind(400, "Invalid Argument.", "Enter the correct parameter as prompted."),
    "0102": Kind(400, "The workspace does not exist.", "Check the current workspace."),
    "0103": Kind(400, "Job name:%s is existed"),
    "0104": Kind(400, "Parameter error. %s", "Check the parameter settings."),
    "0118": Kind(400, "The expected %s exceeds the quota limit.", "Release idle resources, or apply for more quotas"),
    "0201": Kind(401, "Token doesn't exist.", "Add a correct token in the request header."),
    "0202": Kind(401, "Invalid token header because the token has expired.", "Use a valid token."),
    "0203": Kind(401, "Invalid token.", "Use a valid token."),
    "0207": Kind(401, "Token must contain project info of current region.", "Add project information to the token."),
    "0212": Kind(401, "Invalid token header because the token does not contain a project.", "Use a project token."),
    "0428": Kind(401, "The user authorization does not exist.", "Check whether the user agency is authorized."),
    "2751": Kind(400, "Duplicate training job (name %s).", "Change training job name."),
    "2753": Kind(400, "input and output channel information is not standardized."),
    "2755": Kind(
        400, "algorithm not found.", "Check whether the training project information in the request is valid."
    ),
    "2757": Kind(400, "code directory path error."),
    "2758": Kind(400, "code startup file path error."),
    "2759": Kind(400, "Insufficient quota, too many code files, upport uploading up to %s files."),
    "2760": Kind(400, "Insufficient quota, too many levels of code directories, supporting up to %s directories"),
    "2761": Kind(400, "Insufficient quota, the code file takes up too much storage space, supporting up to %s GB"),
    "2763": Kind(400, "The selected flavor is invalid.", "Check the validity of the flavor in the request."),
    "2764": Kind(400, "Invalid query parameter (%s).", "Check the validity of the parameter in the request."),
    "2767": Kind(400, "parameter key repeat.", "Please rename the parameter name."),
    "2775": Kind(400, "Training job (ID: %s) not found."),
    "2776": Kind(204, "not ready for fetch log, wait for training to return data", "Please try again later."),
    "2780": Kind(400, "AI engine(id:%s) not found.", "Check whether the engine informer in the request is valid."),
    "2781": Kind(400, "Flavor (%s) not found.", "Check whether the flavor in the request is valid."),
    "2784": Kind(403, "Invalid token.", "Check the request token."),
    "2785": Kind(403, "You cannot use ModelArts because you have not authorized ModelArts.", "Go to Settings."),
    "2786": Kind(404, "The project ID (%s) in the request does not match that(%s) in the token."),
    "2787": Kind(400, "Invalid JSON request body.", "Check the request body."),
    "2788": Kind(400, "Invalid parameter(%s).", "Check the request parameter."),
    "2791": Kind(400, "Invalid obs path: %s, reason: %s.", "Check the obs path."),
    "2793": Kind(400, "The number of flavor instances (%s) exceeds the maximum (%s).", "Check the flavor."),
    "2796": Kind(409, "The job cannot be terminated.", "Check whether the job status is valid."),
    "2799": Kind(429, "Too many requests.", "Please try again later."),
    "2803": Kind(405, "Method not allowed.", "Please confirm that the HTTP Method is correct"),
    "2806": Kind(400, "Custom image jobs command and engine.url cannot be empty."),
    "2808": Kind(400, "Unsupported condition operator (%s)", "Check whether the operator of search is valid."),
    "2810": Kind(400, "Custom image query failure", "Check whether the image_url is valid."),
    "2812": Kind(400, "Unsupported action type:%s", "Check whether the action type is valid."),
    "2815": Kind(400, "Exceed quota limit of resource(%s).", "Please release the resources in use."),
    "2818": Kind(400, "the log file is not generated", "Please view the log after the log is generated."),
    "2836": Kind(404, "Path not found.", "Please confirm that the PATH is correct"),
    "2890": Kind(404, "Pool (%s) does not exist", "Please check whether the pool exists"),
    "4700": Kind(503, "The service is being upgraded.", "Try again later."),
}

_OF_THE_GATEWAY = {"0201", "0202", "0203", "0207", "0212", "2784", "2799", "4700"}


class Refused(Exception):
    """An error answer of the API.

    :param code: Which row of the table, without ``ModelArts.``.
    :param values: What stands in the message's places; a message without any leaves them out.
    """

    def __init__(self, code: str, *values: object) -> None:
        self.code = code
        self.kind = CODES[code]
        self.message = self.kind.message
        if "%s" in self.message:
            self.message %= tuple(str(value) for value in values)
        super().__init__(f"ModelArts.{code} {self.message}")


def body(refused: Refused, dialect: str) -> dict[str, Any]:
    """Return the body of an error in one dialect."""
    return said(refused.code, refused.message, dialect, refused.kind.solution)


def said(code: str, message: str, dialect: str, solution: str = "") -> dict[str, Any]:
    """The body of an error with any code and message; a code of another system has its name, such as ``APIG.0301``."""
    named = {"error_code": code if "." in code else f"ModelArts.{code}"}
    if code in _OF_THE_GATEWAY or "." in code:
        return named | {"error_msg": message, "request_id": uuid.uuid4().hex}
    if dialect == V1:
        return named | {"is_success": False, "error_message": message}
    return named | {"error_msg": message, "error_solution": solution}
