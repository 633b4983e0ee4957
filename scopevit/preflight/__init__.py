"""What `scopevit check` looks at before a training."""
