package main

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	witnessv1 "github.com/witnessd/witnessd/proto/gen/witness/v1"
)

// TestReads: after a try that was not answered, doubt is told of each call that changes something, and of no
// other. A method that is added must be put on one side.
func TestReads(t *testing.T) {
	changes := map[protoreflect.Name]bool{
		"CreatePair": true, "Switchover": true, "ForceFailover": true, "Pause": true, "Resume": true, "SetPolicy": true,
		"ReplaceMirror": true, "RemovePair": true, "AdoptPair": true, "AddNode": true, "RemoveNode": true,
		"TransferLeadership": true,
	}
	for _, file := range []protoreflect.FileDescriptor{
		witnessv1.File_witness_v1_admin_proto, witnessv1.File_witness_v1_node_proto,
	} {
		methods := file.Services().Get(0).Methods()
		for i := range methods.Len() {
			m := methods.Get(i)
			kind, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
			if err != nil {
				t.Fatal(err)
			}
			var request proto.Message = kind.New().Interface()
			if got := reads(request); got == changes[m.Name()] && !m.IsStreamingServer() {
				t.Errorf("%s: reads is %v", m.Name(), got)
			}
		}
	}
}
