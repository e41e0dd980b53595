"""The test harness: runs the action for real, against a GitHub of our own.

`act` runs a workflow of a consumer repository, `github` is the fake GitHub it talks to, and
`standin` is what `uses: actions/upload-artifact` resolves to. Tests import these modules; nothing
here is shipped with the action.
"""
