#!/usr/bin/python3
# Returns any result, as a node could for any module: it is the node's Python that writes it.
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule(argument_spec={"result": {"type": "dict", "required": True}})
module.exit_json(**module.params["result"])
