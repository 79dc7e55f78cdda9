"""The record of a conference: what was said, by whom, in a chain that the Authorizer countersigns (design, section 9).

Pure. `writer.RecordWriter` writes one while the conference goes on; `verify.verify_record` checks one offline, months
later, against nothing but the domain's trust anchors.
"""
