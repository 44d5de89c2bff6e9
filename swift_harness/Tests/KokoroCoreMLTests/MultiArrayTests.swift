#if canImport(CoreML)
    import CoreML
    import XCTest

    @testable import KokoroCoreML

    final class MultiArrayTests: XCTestCase {
        func testX() {}
    }
#endif
