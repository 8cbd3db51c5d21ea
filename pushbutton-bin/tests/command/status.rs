use crate::lab::Lab;

#[test]
fn an_empty_state_says_so() {
    let lab = Lab::new();
    let said = lab.run(&["status"]).with(0).out;
    assert_eq!(said, "queue: 0 waiting, 0 leased, 0 dead\nreports: 0 due, 0 undelivered\n\nno runs yet\n");
}
